#!/usr/bin/env bash
# Runs every fuzz target of build/fuzz for SECONDS each (default 60), two at a time, from its seeds
# in tests/fuzz/corpus. Fails if one finds something or if none was built.
# PREGATE_FUZZ_SEED: where chance begins; the same takes the same way, so that what it finds is news
# of a change. 0, the default: another one each time, which finds more in the long run.
set -uo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly here
readonly binaries="$here/../../build/fuzz/tests/fuzz"
readonly seconds="${1:-60}" seed="${PREGATE_FUZZ_SEED:-0}"

# fuzz NAME: new inputs go to build/fuzz, never into the seeds.
fuzz() {
  local name="$1" grown="$binaries/corpus/$1" log="$binaries/$1.log" dictionary=()
  mkdir -p "$grown"
  if [[ -f "$here/$name.dict" ]]; then dictionary=("-dict=$here/$name.dict"); fi
  "$binaries/${name}_fuzz" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
    -seed="$seed" -print_final_stats=1 "-artifact_prefix=$binaries/$name-finding-" \
    "${dictionary[@]}" "$grown" "$here/corpus/$name" >"$log" 2>&1
  local status=$?
  if [[ $status == 0 ]]; then
    local runs
    runs="$(awk '/number_of_executed_units/ { print $2 }' "$log")"
    echo "fuzz $name: $runs inputs in $seconds s, no finding"
  else
    echo "fuzz $name: FINDING (exit $status); the end of $log:"
    tail -n 60 "$log"
  fi
  return "$status"
}

status=0
num_targets=0
waiting=()
for source in "$here"/*_fuzz.cc; do
  name="$(basename "$source" _fuzz.cc)"
  if [[ ! -x "$binaries/${name}_fuzz" ]]; then
    echo "fuzz $name: not built; run: cmake --preset fuzz && cmake --build --preset fuzz -t fuzzers"
    status=1
    continue
  fi
  num_targets=$((num_targets + 1))
  if ((${#waiting[@]} == 2)); then
    wait "${waiting[0]}" || status=1
    waiting=("${waiting[1]}")
  fi
  fuzz "$name" &
  waiting+=($!)
done
for process in "${waiting[@]}"; do
  wait "$process" || status=1
done
if ((num_targets == 0)); then
  echo "fuzz: no target found"
  status=1
fi
exit "$status"
