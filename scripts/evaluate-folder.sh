#!/usr/bin/env bash
# Rate-distortion curves over a folder: scripts/evaluate-folder.sh PICTURES OUT [lic eval options]
set -euo pipefail
[ $# -ge 2 ] || { sed -n 2p "$0" >&2; exit 2; }
pictures=$1 out=$2
shift 2
exec lic eval --dataset "$pictures" --codec hyperprior,jpeg,webp,avif,avif-444 --out "$out" "$@"
