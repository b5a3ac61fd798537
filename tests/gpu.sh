#!/usr/bin/env bash
# Tests and measures what needs an NVIDIA GPU; see usage(). tests/run.sh tests all the rest.
set -uo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly root packed="$root/build/gpu"

usage() {
  cat <<'HELP'
Usage: tests/gpu.sh [--pack | --packed] [PHASE...]

Builds the release preset with its CUDA module and, on the GPU, runs the PHASEs (default: all):

  ops        every operation against the reference, with the conformance suite
  golden     models against the logits and tokens of transformers
  cluster    processes with experts on the GPU and beside it: the same tokens, a killed worker,
             payloads by NCCL
  bench      linear maps, draws, and a layer of experts beside the limits of the device, PyTorch and
             Triton
  memcheck   the operations again under compute-sanitizer

  --pack     build, and put the programs with their libraries into build/gpu; needs no GPU
  --packed   build nothing: run what --pack made. For a machine without the Debian packages; the
             project must lie in the same folder there
  --help     this text

Needs no network. The last line counts the phases.
HELP
}

readonly programs=(
  pregate pregate_cuda.so pregate_nccl.so tests/conformance/compute/compute_conformance_test
  tests/golden/golden_test tests/golden/pregate_test bench/compute/linear_bench
  bench/compute/draw_bench bench/compute/moe_bench)

build() {
  cmake --preset release && cmake --build --preset release --parallel "$(nproc)" --target \
    pregate compute_conformance_test golden_test pregate_test linear_bench \
    draw_bench moe_bench
}

# The libraries that come with every Linux stay behind: they must fit its loader and its driver. So
# does NCCL, for its size: machines with GPUs have it.
pack() {
  rm -rf "$packed" && mkdir -p "$packed/lib" || return 1
  local program library
  for program in "${programs[@]}"; do
    # Built only where NCCL is.
    [[ $program != pregate_nccl.so || -e "$root/build/release/$program" ]] || continue
    install -s "$root/build/release/$program" "$packed" || return 1
    ldd "$root/build/release/$program" | awk '$2 == "=>" { print $3 }'
  done | sort -u | while read -r library; do
    case "$(basename "$library")" in
      libc.so* | libm.so* | libstdc++.so* | libgcc_s.so* | libnccl.so*) ;;
      *) install -s "$library" "$packed/lib/" || return 1 ;;
    esac
  done || return 1
  du -sh "$packed"
}

# program NAME: where it is.
program() {
  if [[ $mode == packed ]]; then
    echo "$packed/$1"
  else
    local path
    for path in "${programs[@]}"; do
      [[ "$(basename "$path")" == "$1" ]] && echo "$root/build/release/$path"
    done
  fi
}

ops() {
  "$(program compute_conformance_test)" --gtest_brief=1 \
    --gtest_filter='*cuda_0*:Experts.*:Registry.*'
}

golden() {
  "$(program golden_test)" --gtest_brief=1 --gtest_filter='*cuda_0*' &&
    "$(program pregate_test)" --gtest_brief=1
}

cluster() {
  if ! python3 -c 'import pytest' 2>/dev/null; then
    echo "skipped: python3 has no pytest"
    return 0
  fi
  (cd "$root/tests/integration" &&
    PREGATE_BINARY="$(program pregate)" python3 -m pytest -q -rs -p no:cacheprovider test_gpu.py)
}

memcheck() {
  if ! command -v compute-sanitizer >/dev/null; then
    echo "skipped: no compute-sanitizer"
    return 0
  fi
  local filter='*ExpertsTest*cuda_0*:*LinearTest*cuda_0*:*Attention*cuda_0*:*DrawTest*cuda_0*'
  compute-sanitizer --error-exitcode 1 --tool memcheck "$(program compute_conformance_test)" \
    --gtest_brief=1 --gtest_filter="$filter"
}

bench() {
  "$(program linear_bench)" && "$(program draw_bench)" && "$(program moe_bench)" || return 1
  if ! python3 -c 'import torch, triton' 2>/dev/null; then
    echo "skipped: python3 has no PyTorch with Triton to compare with"
    return 0
  fi
  python3 "$root/bench/compute/cuda/moe_peers.py"
}

# PyTorch brings NCCL along, where the loader does not find it.
add_nccl() {
  local folder
  folder="$(python3 -c 'import nvidia.nccl; print(nvidia.nccl.__path__[0])' 2>/dev/null)" ||
    return 0
  export LD_LIBRARY_PATH="$LD_LIBRARY_PATH:$folder/lib"
}

mode=build
phases=()
for argument in "$@"; do
  case "$argument" in
    --help | -h) usage && exit 0 ;;
    --pack | --packed) mode="${argument#--}" ;;
    ops | golden | cluster | memcheck | bench) phases+=("$argument") ;;
    *)
      echo "tests/gpu.sh: $argument: unknown; see --help" >&2
      exit 2
      ;;
  esac
done
if ((${#phases[@]} == 0)); then phases=(ops golden cluster bench memcheck); fi

cd "$root" || exit 1
if [[ $mode != packed ]]; then build || exit 1; fi
if [[ $mode == pack ]]; then
  pack
  exit
fi
if [[ $mode == packed ]]; then
  export LD_LIBRARY_PATH="$packed/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  export PREGATE_CUDA_MODULE="$packed/pregate_cuda.so"
  export PREGATE_NCCL_MODULE="$packed/pregate_nccl.so"
  add_nccl
else
  export PREGATE_CUDA_MODULE="$root/build/release/pregate_cuda.so"
fi
if ! "$(program pregate)" version | grep -q 'cuda:0'; then
  echo "tests/gpu.sh: no GPU can be used here:" >&2
  "$(program pregate)" version >&2
  exit 1
fi
failed=()
for phase in "${phases[@]}"; do
  echo "== $phase"
  began=$SECONDS
  "$phase" || failed+=("$phase")
  echo "-- $phase: $((SECONDS - began)) s"
done
echo
passed="$((${#phases[@]} - ${#failed[@]})) of ${#phases[@]} phases passed in $SECONDS s"
echo "$passed${failed[*]:+; FAILED: ${failed[*]}}"
exit $((${#failed[@]} > 0))
