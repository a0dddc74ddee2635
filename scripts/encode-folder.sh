#!/usr/bin/env bash
# Encode every picture of a folder: scripts/encode-folder.sh PICTURES OUT [lic encode options]
set -euo pipefail
[ $# -ge 2 ] || { sed -n 2p "$0" >&2; exit 2; }
pictures=$1 out=$2
shift 2
exec lic encode "$pictures" -o "$out" --jobs "$(getconf _NPROCESSORS_ONLN)" --threads 1 "$@"
