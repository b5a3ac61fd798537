#!/bin/sh
# Usage: module_exports.sh MODULE
# Fails if the module shows more than its entry, or needs a library of the CUDA toolkit or driver to
# be loaded.
set -eu
exported=$(nm -D --defined-only "$1" | awk '{ print $3 }')
[ "$exported" = pregate_cuda_module ] || { echo "exported:"; echo "$exported"; exit 1; }
needed=$(objdump -p "$1" | awk '$1 == "NEEDED" && $2 ~ /cu|nv/ { print $2 }')
[ -z "$needed" ] || { echo "needed:"; echo "$needed"; exit 1; }
