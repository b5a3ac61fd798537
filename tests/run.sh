#!/usr/bin/env bash
# Installs, builds and tests everything; see usage(). Phases run in order, each under a time limit;
# a phase that fails does not stop those that can do without it.
set -uo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly root
export PREGATE_JOBS="${PREGATE_JOBS:-$(nproc)}" PREGATE_FUZZ_SEED="${PREGATE_FUZZ_SEED:-1}"

usage() {
  cat <<'HELP'
Usage: tests/run.sh [--asan] [--tsan] [--fuzz] [--all] [--no-install] [-- CTEST_ARGUMENT...]

Installs the Debian packages that are missing, builds the release preset and runs its tests.

  --asan         also the tests under the address and undefined-behaviour sanitizers
  --tsan         also the tests with threads under the thread sanitizer
  --fuzz         also every fuzz target for 60 seconds
  --all          all of these
  --no-install   install no Debian packages; a missing one fails the build
  --help         this text
  -- ...         passed on to ctest, for example: tests/run.sh -- -R Tokenizer

Environment: PREGATE_JOBS        compilers and tests at once (default: the cores)
             PREGATE_FUZZ_SECONDS  per fuzz target (default 60)
             PREGATE_FUZZ_SEED   where they begin (default 1: what is found is a change's doing;
                                 0: by chance)
             PREGATE_TIME_LIMIT  seconds for the whole run (default 1200, and 1000 for each extra)
             CI=true             a test dependency that cannot be installed is a failure; otherwise
                                 the tests that need it are left out and the reason is printed
Logs of the phases: build/log/. The last line counts the tests of all suites, as ctest's does; a
phase that is no suite counts as one test, if it fails.
HELP
}

sanitizers=()
fuzz=false
install=true
ctest_arguments=()
while [[ $# -gt 0 ]]; do
  case "$1" in
    --help | -h) usage && exit 0 ;;
    --asan | --tsan) sanitizers+=("${1#--}") ;;
    --fuzz) fuzz=true ;;
    --all)
      sanitizers=(asan tsan)
      fuzz=true
      ;;
    --no-install) install=false ;;
    --)
      shift
      ctest_arguments=("$@")
      break
      ;;
    *)
      echo "tests/run.sh: $1: unknown; see --help" >&2
      exit 2
      ;;
  esac
  shift
done

extras=$((${#sanitizers[@]} + $($fuzz && echo 1 || echo 0)))
time_limit="${PREGATE_TIME_LIMIT:-$((1200 + 1000 * extras))}"
summary=()
failed_tests=""
num_tests=0
num_failed=0

# note NAME SECONDS RESULT
note() { summary+=("$(printf '%-18s %5d s  %s' "$@")"); }

# count STATUS CTEST_CLOSING_LINE: adds up what the last line of all says.
count() {
  local status="$1" failures=0
  if [[ "$2" =~ ([0-9]+)\ tests?\ failed\ out\ of\ ([0-9]+) ]]; then
    failures=${BASH_REMATCH[1]}
    num_tests=$((num_tests + BASH_REMATCH[2]))
  fi
  if [[ $status != 0 && $failures == 0 ]]; then
    failures=1
    num_tests=$((num_tests + 1))
  fi
  num_failed=$((num_failed + failures))
}

# what_failed LOG: the tests that failed in a log of ctest, each with the end of its output.
what_failed() {
  awk -v most=40 '
    function print_test(  line) {
      for (line = size > most ? size - most : 0; line < size; ++line) print output[line]
      size = 0
    }
    /^ *[0-9]+\/[0-9]+ Test +#[0-9]+: / { print_test(); failed = /\*\*\*/ && !/\*\*\*Skipped/ }
    failed && / Test +#[0-9]+: / { print; next }
    /^( *Start +[0-9]+: |[0-9]+% tests passed)/ { failed = 0 }
    failed { output[size++] = $0 }
    END { print_test() }' "$1"
}

# phase NAME LIMIT_SECONDS COMMAND...: runs a command or exported function, and notes how it went.
phase() {
  local name="$1" limit="$2" began=$SECONDS status=0 result line
  local log="$root/build/log/${name// /-}.log"
  shift 2
  if ((limit > time_limit - SECONDS)); then limit=$((time_limit - SECONDS)); fi
  if ((limit <= 0)); then
    note "$name" 0 "FAILED: not begun, the run's time limit of $time_limit s is over"
    count 1 ""
    return 1
  fi
  echo "== $name"
  timeout --kill-after=30 "$limit" bash -c '"$@"' phase "$@" 2>&1 </dev/null | tee "$log"
  status=${PIPESTATUS[0]}
  case $status in
    0) result="passed" ;;
    124 | 137) result="FAILED: stopped after $limit s" ;;
    *) result="FAILED" ;;
  esac
  if [[ $status != 0 ]]; then
    failed_tests+="$(what_failed "$log" | sed "s/^/$name: /")"$'\n'
  fi
  line="$(grep -E '^[0-9]+% tests passed' "$log" | tail -n 1)"
  note "$name" $((SECONDS - began)) "$result${line:+: $line}"
  count "$status" "$line"
  return "$status"
}

finish() {
  if [[ "$failed_tests" == *[![:space:]]* ]]; then
    printf '\n== failed tests\n%s' "$failed_tests"
  fi
  printf '\n== summary, %d s\n' "$SECONDS"
  printf '%s\n' "${summary[@]}"
  local percent=0
  if ((num_tests > 0)); then percent=$((100 * (num_tests - num_failed) / num_tests)); fi
  printf '\n%d%% tests passed, %d tests failed out of %d\n' "$percent" "$num_failed" "$num_tests"
  exit $((num_failed > 0))
}

# The client tests' Python packages live in build/venv; nothing outside the tree is touched.
make_venv() {
  [[ -x build/venv/bin/python ]] || python3 -m venv build/venv || return 1
  build/venv/bin/python -m pip --disable-pip-version-check install --quiet --timeout 30 \
    --retries 2 --requirement tests/requirements.txt
}

python_packages() {
  phase "python packages" 600 make_venv && return
  if [[ "${CI:-}" == true ]]; then return; fi
  num_tests=0
  num_failed=0
  summary[-1]="${summary[-1]/FAILED*/skipped: no Python index, so no client tests}"
  rm -rf build/venv
}

# build PRESET TARGET...
build() {
  local preset="$1" python=""
  shift
  if [[ -x build/venv/bin/python ]]; then python="$PWD/build/venv/bin/python"; fi
  cmake --preset "$preset" -DPREGATE_TESTS=ON -DPREGATE_BENCH=OFF \
    "-DPREGATE_TEST_PYTHON=$python" || return 1
  cmake --build --preset "$preset" --parallel "$PREGATE_JOBS" ${1:+--target "$@"}
}

# run_tests PRESET CTEST_ARGUMENT...
run_tests() {
  local preset="$1"
  shift
  ctest --test-dir "build/$preset" --output-on-failure --no-tests=error \
    --parallel "$PREGATE_JOBS" "$@"
}

# Tests labelled release_only measure, or would say nothing new under a sanitizer. Under the thread
# sanitizer, which is slow, those without threads would not either.
run_sanitized_tests() {
  local suppressions="$PWD/tests/sanitizers" preset="$1"
  shift
  export ASAN_OPTIONS="detect_stack_use_after_return=1:check_initialization_order=1"
  export LSAN_OPTIONS="suppressions=$suppressions/lsan.supp:print_suppressions=0"
  export UBSAN_OPTIONS="print_stacktrace=1"
  export TSAN_OPTIONS="suppressions=$suppressions/tsan.supp:second_deadlock_stack=1"
  # UCX hooks into the madvise() of a thread's very end, where the thread sanitizer knows the thread
  # no more and crashes.
  export UCX_MEM_MMAP_HOOK_MODE=none
  local labels=(--label-exclude 'tidy|release_only')
  if [[ $preset == tsan ]]; then labels+=(--label-regex threads); fi
  run_tests "$preset" "${labels[@]}" "$@"
}
export -f make_venv build run_tests run_sanitized_tests

cd "$root" || exit 1
mkdir -p build/log
if $install; then
  phase "debian packages" 900 deploy/install-dependencies.sh build run test || finish
fi
if command -v ccache >/dev/null; then
  export CMAKE_CXX_COMPILER_LAUNCHER=ccache CCACHE_BASEDIR="$root" CCACHE_NOHASHDIR=1
fi
python_packages

phase "build release" 1800 build release &&
  phase "test release" 1200 run_tests release "${ctest_arguments[@]}"
for preset in "${sanitizers[@]}"; do
  target=all
  if [[ $preset == tsan ]]; then target=threaded_tests; fi
  phase "build $preset" 1800 build "$preset" "$target" &&
    phase "test $preset" 1500 run_sanitized_tests "$preset" "${ctest_arguments[@]}"
done
if $fuzz; then
  phase "build fuzz" 900 build fuzz fuzzers &&
    phase "fuzz" 900 tests/fuzz/run_fuzzers.sh "${PREGATE_FUZZ_SECONDS:-60}"
fi
finish
