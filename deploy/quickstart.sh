#!/usr/bin/env bash
# From a fresh checkout to a streamed answer of a small cluster on this machine; see usage().
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
readonly root
readonly pregate="$root/build/release/pregate"
readonly log="$root/build/quickstart.log"
readonly name="quickstart"
readonly question="What is a mixture of experts?"
# The model that ships cannot answer questions: it continues texts.
readonly beginning="And the LORD said"
readonly stop_seconds=45

usage() {
  cat <<'HELP'
Usage: deploy/quickstart.sh [--keep] [--workers N] [--wait SECONDS] [MODEL_FOLDER]

Installs the Debian packages that are missing, builds Pregate, starts one coordinator and two
workers under mpirun on this machine only (127.0.0.1), asks the model a question, streams its
answer, shows how many tokens each worker computed, and stops everything.

  MODEL_FOLDER     a Mixture-of-Experts checkpoint (config.json, *.safetensors, tokenizer.json);
                   without it the small one of models/pregate-tiny, which knows nothing, and is
                   asked to continue a text
  --keep           leave the cluster running, and say how to use and stop it
  --workers N      so many workers (default 2)
  --wait SECONDS   how long loading may take (default 300)
  --help           this text
HELP
}

say() { echo "quickstart: $*"; }
fail() {
  echo "quickstart: $*" >&2
  exit 1
}

keep=false
workers=2
wait_seconds=300
model=""
can_chat=true
while [[ $# -gt 0 ]]; do
  case "$1" in
    --help | -h) usage && exit 0 ;;
    --keep) keep=true ;;
    --workers | --wait)
      [[ "${2:-}" =~ ^[1-9][0-9]*$ ]] || fail "$1: expected a number"
      if [[ "$1" == --wait ]]; then wait_seconds="$2"; else workers="$2"; fi
      shift
      ;;
    -*) fail "$1: unknown; see --help" ;;
    *) model="$1" ;;
  esac
  shift
done

cluster=""  # Process id of mpirun, which leads a process group of its own.

is_running() { [[ -n "$cluster" ]] && kill -0 "$cluster" 2>/dev/null; }

coordinator_pid() {
  local pid
  for pid in $(cat "/proc/$cluster/task/$cluster/children"); do
    if tr '\0' ' ' <"/proc/$pid/cmdline" | grep -q ' coordinator '; then echo "$pid"; fi
  done
}

# First politely, so that running requests may end; whatever is left after that by force. The
# coordinator is asked, not mpirun, which would pass the signal on late and then kill.
stop_cluster() {
  is_running || return 0
  local coordinator
  coordinator="$(coordinator_pid)"
  kill -TERM "${coordinator:-$cluster}" 2>/dev/null || true
  for ((i = 0; i < stop_seconds * 5; i++)); do
    is_running || break
    sleep 0.2
  done
  kill -KILL -- "-$cluster" 2>/dev/null || true
  wait "$cluster" 2>/dev/null || say "the cluster ended with status $?; its log: $log"
  cluster=""
}
trap stop_cluster EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

build() {
  "$root/deploy/install-dependencies.sh" build run
  if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi
  # A tree that is already configured may be a developer's, with tests: leave it so.
  if [[ ! -f "$root/build/release/CMakeCache.txt" ]]; then
    say "configuring (log: build/quickstart-build.log)"
    (cd "$root" && cmake --preset release -DPREGATE_TESTS=OFF -DPREGATE_BENCH=OFF) \
      >"$root/build/quickstart-build.log" 2>&1 || fail_with_log "$root/build/quickstart-build.log"
  fi
  say "building; the first time takes some minutes"
  (cd "$root" && cmake --build --preset release --target pregate)
}

fail_with_log() {
  tail -n 30 "$1" >&2
  fail "that did not work; the whole log: $1"
}

choose_model() {
  if [[ -n "$model" ]]; then
    [[ -f "$model/config.json" ]] || fail "$model: no config.json there"
    return
  fi
  model="$root/models/pregate-tiny"
  can_chat=false
  say "no model given: using $model, a small one trained on Debian's documents; see its README.md"
}

free_port() {
  local port
  for port in {8000..8099}; do
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  fail "no free port from 8000 to 8099"
}

start_cluster() {
  # mpirun refuses root unless told twice; the rest keeps it off every network but the loopback and
  # lets ranks share cores.
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  export OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_btl_tcp_if_include=lo
  export OMPI_MCA_rmaps_base_oversubscribe=1
  local threads=$(($(nproc) / workers))
  if ((threads < 1)); then threads=1; fi
  local common=(--model "$model" --weights bf16 --threads "$threads")
  setsid mpirun --bind-to none \
    -n 1 "$pregate" coordinator "${common[@]}" --port "$port" --served-model-name "$name" : \
    -n "$workers" "$pregate" worker "${common[@]}" >"$log" 2>&1 </dev/null &
  cluster=$!
}

wait_until_ready() {
  local began=$SECONDS
  while ! curl --silent --fail --max-time 2 --output /dev/null "$url/health/ready"; do
    is_running || fail_with_log "$log"
    if ((SECONDS - began >= wait_seconds)); then
      tail -n 30 "$log" >&2
      fail "not ready after $wait_seconds s (--wait gives it longer); the whole log: $log"
    fi
    sleep 0.3
  done
  say "ready after $((SECONDS - began)) s: $url"
}

# Prints the text of a stream of server-sent events as it arrives.
print_stream() {
  local line text num_pieces=0
  local content='"(content|text)":"(([^"\\]|\\.)*)"'
  while IFS= read -r line; do
    if [[ "$line" == *'"error"'* ]]; then
      echo "$line"
      return 1
    fi
    [[ "$line" =~ $content ]] || continue
    printf -v text '%b' "${BASH_REMATCH[2]}"
    # A model may say anything, terminal commands too.
    printf '%s' "${text//[[:cntrl:]]/ }"
    num_pieces=$((num_pieces + 1))
  done
  echo
  ((num_pieces > 0))
}

ask() {
  local path body="\"model\":\"$name\",\"stream\":true,\"max_tokens\":64"
  if $can_chat; then
    say "asking: $question"
    path=chat/completions
    body+=",\"messages\":[{\"role\":\"user\",\"content\":\"$question\"}]"
  else
    say "asking it to continue: $beginning"
    path=completions
    body+=",\"prompt\":\"$beginning\",\"temperature\":0.6"
  fi
  curl --silent --show-error --no-buffer --max-time 300 "$url/v1/$path" \
    --header 'Content-Type: application/json' --data "{$body}" | print_stream ||
    fail_with_log "$log"
}

show_workers() {
  say "token rows computed by each worker (from $url/metrics; every layer counts again):"
  curl --silent --fail --max-time 10 "$url/metrics" |
    sed -nE 's/^pregate_worker_tokens_total\{.*worker="([^"]*)".*\} (.*)$/  \1: \2/p' | sort
}

say_how_to_use() {
  cat <<HELP
quickstart: still running (--keep). To watch it and ask it: open $url/ in a browser. To use it:
  curl $url/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model":"$name","messages":[{"role":"user","content":"Hello"}]}'
  OpenAI client: base_url="$url/v1", api_key="none", model="$name"
To stop it:
  kill $(coordinator_pid)
Its log: $log
HELP
}

mkdir -p "$root/build"
build
choose_model
port="$(free_port)"
readonly port
readonly url="http://127.0.0.1:$port"
say "starting one coordinator and $workers workers (log: $log)"
start_cluster
wait_until_ready
ask
show_workers
if $keep; then
  say_how_to_use
  trap - EXIT
else
  stop_cluster
  say "stopped. More: README.md"
fi
