#!/usr/bin/env bash
# Puts NCCL where the build looks for it; see usage().
set -euo pipefail

usage() {
  cat <<'HELP'
Usage: deploy/install-nccl.sh [--to FOLDER] CUDA

Puts the headers and the library of NCCL for that major version of CUDA (12 or 13) into FOLDER
(/usr/local/nccl), from the wheel that NVIDIA publishes on PyPI: Debian has no package of it. Takes
Python with pip, which it installs if it is root, and some 500 MB. Needs no GPU.

  --to FOLDER   another folder; tell the build: cmake --preset release -DCMAKE_PREFIX_PATH=FOLDER
  --help        this text
HELP
}

fail() {
  echo "install-nccl: $*" >&2
  exit 1
}

to=/usr/local/nccl
cuda=""
while (($# > 0)); do
  case "$1" in
    --help | -h) usage && exit 0 ;;
    --to) to="${2:?install-nccl: --to: expected a folder}" && shift 2 ;;
    *) [[ -z $cuda ]] || fail "$1: unknown; see --help" && cuda="$1" && shift ;;
  esac
done
[[ $cuda =~ ^1[23]$ ]] || fail "${cuda:-nothing}: expected the major version of CUDA, 12 or 13"
if ! python3 -m pip --version >/dev/null 2>&1; then
  [[ "$(id -u)" == 0 ]] || fail "needs Python with pip: apt-get install python3-pip"
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install python3-pip
fi
mkdir -p "$to" || fail "$to: cannot be made"

folder="$(mktemp -d)"
readonly folder
trap 'rm -rf "$folder"' EXIT
echo "install-nccl: downloading nvidia-nccl-cu$cuda"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
  --dest "$folder" "nvidia-nccl-cu$cuda" || fail "pip could not download it"
python3 -m zipfile -e "$folder"/nvidia_nccl_cu*.whl "$folder/wheel"
cp -r "$folder"/wheel/nvidia/nccl/include "$folder"/wheel/nvidia/nccl/lib "$to/"
[[ -e "$to/include/nccl.h" && -e "$to/lib/libnccl.so.2" ]] || fail "the wheel has no NCCL in it"
# The name that linkers look for.
ln -sf libnccl.so.2 "$to/lib/libnccl.so"
echo "install-nccl: done: $to"
