#!/usr/bin/env bash
# Make every table and plot of docs/results.md again: scripts/results.sh OUT [RUN]
# OUT gets the figures; RUN is the folder of the training run, where it is still there. LIC_DATA names
# the folder that holds kodak/ (lic data fetch kodak). Takes about an hour on two cores; lic eval
# goes on where it was, the others start anew.
set -euo pipefail
[ $# -ge 1 ] || { sed -n 2p "$0" >&2; exit 2; }
out=$1 here=$(dirname "$0")
mkdir -p "$out"
lic eval --dataset kodak --out "$out/kodak" --published "$here/../docs/published-kodak.json" \
    --codec hyperprior-psnr,hyperprior-eyes,jpeg,jpeg-progressive,webp,avif,avif-444,jpeg2000,jxl,heic | tee "$out/kodak.txt"
lic eval --dataset kodak --out "$out/kodak" --published "$here/../docs/published-kodak.json" \
    --codec hyperprior-psnr,hyperprior-eyes,jpeg,jpeg-progressive,webp,avif,avif-444,jpeg2000,jxl,heic --metric ms-ssim \
    | tee "$out/kodak-ms-ssim.txt"
cp "$out/kodak/rd.png" "$out/rd-kodak-ms-ssim.png"
# Once more for the plot in PSNR: all rows are there already.
lic eval --dataset kodak --out "$out/kodak" --published "$here/../docs/published-kodak.json" \
    --codec hyperprior-psnr,hyperprior-eyes,jpeg,webp,avif,avif-444,heic > /dev/null
cp "$out/kodak/rd.png" "$out/rd-kodak.png"
lic eval --dataset kodak --out "$out/kodak-vqgan" --published "$here/../docs/published-kodak-perceptual.json" \
    --codec vqgan --perceptual --metric lpips --at 0.03 --log | tee "$out/kodak-vqgan.txt"
lic eval --dataset kodak --out "$out/kodak-lowest" --codec jpeg,webp,avif,jxl -q 0 --perceptual \
    | tee "$out/kodak-lowest.txt"
for set in kodak valid; do
    lic eval --dataset $set --out "$out/eyes-$set" --metric ssimulacra2 --perceptual --anchor avif \
        --codec hyperprior-eyes,hyperprior-psnr,avif,avif-iq,avif-444,jxl,webp,jpeg \
        | tee "$out/eyes-$set.txt"
done
python "$here/rungs.py" kodak | tee "$out/rungs.txt"
python "$here/speed_vqgan.py" | tee "$out/speed-vqgan.txt"
python "$here/promises.py" kodak --rates ${2:+--run "$2"} | tee "$out/promises.txt"
python "$here/exactness.py" kodak | tee "$out/exactness.txt"
python "$here/speed.py" kodak --out "$out/speed.json" | tee "$out/speed.txt"
