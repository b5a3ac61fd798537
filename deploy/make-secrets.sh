#!/usr/bin/env bash
# Makes the secrets of one cluster; see usage().
set -euo pipefail

usage() {
  cat <<'HELP'
Usage: deploy/make-secrets.sh FOLDER

Writes what coordinator, workers and clients of one cluster must know and nobody else may, 32 random
bytes each, readable by their owner only. A file that exists is left as it is.

  FOLDER/cluster.secret   who may join as a worker (--secret-file)
  FOLDER/api.keys         who may send requests (--api-key-file); one key a line
  FOLDER/admin.keys       who may use `pregate admin` (--admin-key-file); one key a line
HELP
}

case "${1:-}" in
  --help | -h) usage && exit 0 ;;
  "" | -*)
    usage >&2
    exit 2
    ;;
esac

umask 077
mkdir -p "$1"
for name in cluster.secret api.keys admin.keys; do
  [[ -e "$1/$name" ]] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$1/$name"
  echo "make-secrets: $1/$name"
done
