#!/usr/bin/env bash
# The whole experiment over lossy channels: scripts/channel.sh OUT [DATASET] [SEEDS]
# DATASET is kodak unless named, SEEDS 10. Writes tables, JSON and plots to OUT: every concealer at 0 to
# 50 % loss, independent and in bursts; JPEG and WebP cut into the same packets; parity at equal bytes;
# DISTS of two seeds at a fifth lost; what packets cost. Needs make perceptual and zfec; two cores take
# about an hour and a half.
set -euo pipefail
[ $# -ge 1 ] || { sed -n 2p "$0" >&2; exit 2; }
out=$1 set=${2:-kodak} seeds=${3:-10} here=$(dirname "$0")
mkdir -p "$out"
lic eval --dataset "$set" --codec vqgan,jpeg,webp --channel 0.05,0.1,0.2,0.3,0.5 --burst 0,3,6 \
    --seeds "$seeds" --metric lpips --threads "$(nproc)" --out "$out/losses" | tee "$out/losses.txt"
lic eval --dataset "$set" --codec vqgan --channel 0.05,0.1,0.2,0.3,0.5 --burst 0,3 --parity 1,2,4 \
    --conceal conv --seeds "$seeds" --metric lpips --threads "$(nproc)" --out "$out/parity" \
    | tee "$out/parity.txt"
lic eval --dataset "$set" --codec vqgan --channel 0.2 --burst 0,3 --seeds 2 --perceptual \
    --metric dists --threads "$(nproc)" --out "$out/dists" | tee "$out/dists.txt"
python "$here/packets.py" "$set" | tee "$out/packets.txt"
