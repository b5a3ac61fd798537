#!/usr/bin/env bash
# Installs on Debian 12 what building the CUDA module takes, from NVIDIA's repository; see usage().
set -euo pipefail

readonly repository="https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64"
readonly keyring="cuda-keyring_1.1-1_all.deb"

usage() {
  cat <<'HELP'
Usage: deploy/install-cuda.sh VERSION

Installs the compiler, the static runtime and the headers of the CUDA toolkit VERSION, 12-0 or
newer, written as in the names of NVIDIA's packages (13-0). Adds NVIDIA's repository for Debian 12
to those of this machine. Needs root, on x86-64; no GPU and no driver, and installs no driver.

  --help   this text
HELP
}

say() { echo "install-cuda: $*"; }
fail() {
  say "$*" >&2
  exit 1
}

[[ "${1:-}" != --help && "${1:-}" != -h ]] || { usage && exit 0; }
[[ $# == 1 && "$1" =~ ^[1-9][0-9]-[0-9]+$ ]] || fail "expected a VERSION such as 13-0; see --help"
readonly version="$1"
((${version%-*} >= 12)) || fail "$version: expected 12-0 or newer"
[[ "$(uname -m)" == x86_64 ]] || fail "$(uname -m): only x86-64 is supported"
[[ "$(id -u)" == 0 ]] || fail "not root"

# cuda_bf16.h includes a header of cccl.
readonly packages=("cuda-nvcc-$version" "cuda-cudart-dev-$version" "cuda-cccl-$version")
readonly nvcc="/usr/local/cuda-${version/-/.}/bin/nvcc"

export DEBIAN_FRONTEND=noninteractive
readonly options=(-o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 -qq)
folder="$(mktemp -d)"
readonly folder
trap 'rm -rf "$folder"' EXIT

# run_quietly COMMAND...: what it says only if it fails.
run_quietly() {
  "$@" >"$folder/log" 2>&1 || {
    tail -n 40 "$folder/log" >&2
    fail "that did not work: $*"
  }
}

say "installing ${packages[*]}"
run_quietly apt-get "${options[@]}" update
run_quietly apt-get "${options[@]}" -y --no-install-recommends install ca-certificates curl
run_quietly curl --proto =https --fail --silent --show-error --location --retry 3 \
  --output "$folder/$keyring" "$repository/$keyring"
run_quietly dpkg --install "$folder/$keyring"
run_quietly apt-get "${options[@]}" update
run_quietly apt-get "${options[@]}" -y --no-install-recommends install "${packages[@]}"
[[ -x "$nvcc" ]] || fail "$nvcc: not there after all was installed"
# Where the build looks for it. The packages make that link as a rule.
[[ -e /usr/local/cuda ]] || ln -s "$(dirname "$(dirname "$nvcc")")" /usr/local/cuda
say "done: $nvcc"
