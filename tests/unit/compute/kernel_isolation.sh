#!/bin/sh
# Usage: kernel_isolation.sh LIBRARY
# Fails if a source that is compiled for a newer processor defines a function other files could be
# linked to: the linker keeps one copy of an inline function, and it must not be that one.
set -eu
leaks=$(nm --defined-only -C "$1" 2>/dev/null |
  awk '/^kernels_avx.*:$/ { inside = 1; next } /^[^ ]*\.o:$/ { inside = 0 }
       inside && $2 ~ /^[TWu]$/')
members=$(nm "$1" 2>/dev/null | grep -c '^kernels_.*\.o:$')
[ "$members" -gt 0 ] || { echo "no kernels in $1"; exit 1; }
[ -z "$leaks" ] || { echo "visible outside:"; echo "$leaks"; exit 1; }
