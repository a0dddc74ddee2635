#!/usr/bin/env bash
# Decode every .lic file of a folder: scripts/decode-folder.sh FILES OUT [lic decode options]
set -euo pipefail
[ $# -ge 2 ] || { sed -n 2p "$0" >&2; exit 2; }
files=$1 out=$2
shift 2
exec lic decode "$files" -o "$out" --jobs "$(getconf _NPROCESSORS_ONLN)" --threads 1 "$@"
