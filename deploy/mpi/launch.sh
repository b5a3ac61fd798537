#!/usr/bin/env bash
# Starts a cluster on several hosts by mpirun, and stops it in an orderly way; see usage().
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
readonly root

usage() {
  cat <<'HELP'
Usage: deploy/mpi/launch.sh --hostfile FILE --model FOLDER [OPTION...] [-- PREGATE_FLAG...]

Checks all hosts with `pregate doctor`, then runs `pregate serve` on them until it gets SIGTERM or
SIGINT: rank 0, on the first host, is the coordinator, all other ranks are workers.

  --hostfile FILE     hosts, one a line, the coordinator's first; see hostfile.example
  --model FOLDER      the checkpoint, at this path on every host
  --workers N         workers on each host; default: its slots= in the hostfile, or 1
  --iface NAME        network interface for all traffic between hosts; default: Open MPI's choice,
                      which is wrong where hosts have networks that do not lead to one another
  --binary FILE       pregate, at this path on every host; default: build/release/pregate, or else
                      the one on the PATH
  --rsh COMMAND       how other hosts are reached (default: ssh); from this host only
  --skip-doctor       start without checking
  --stop-timeout N    seconds after which a cluster that was asked to stop is killed (default 60);
                      must be longer than --drain-timeout
  --help              this text
  -- ...              flags of `pregate serve`, which workers get too, for example
                      -- --host 0.0.0.0 --weights q8 --threads 8 --metrics-port 9100

Environment variables PREGATE_... reach all ranks. A second signal kills at once.
HELP
}

say() { echo "launch: $*" >&2; }
fail() {
  say "$*"
  exit 2
}

is_count() { [[ "$1" =~ ^[1-9][0-9]{0,4}$ ]]; }

hostfile=""
model=""
workers=""
iface=""
binary=""
rsh=""
skip_doctor=false
stop_timeout=60
while [[ $# -gt 0 ]]; do
  case "$1" in
    --help | -h) usage && exit 0 ;;
    --skip-doctor) skip_doctor=true ;;
    --)
      shift
      break
      ;;
    --hostfile | --model | --workers | --iface | --binary | --rsh | --stop-timeout)
      [[ -n "${2:-}" ]] || fail "$1: expected a value"
      case "$1" in
        --hostfile) hostfile="$2" ;;
        --model) model="$2" ;;
        --workers) workers="$2" ;;
        --iface) iface="$2" ;;
        --binary) binary="$2" ;;
        --rsh) rsh="$2" ;;
        --stop-timeout) stop_timeout="$2" ;;
      esac
      shift
      ;;
    *) fail "$1: unknown; see --help (flags of pregate come after --)" ;;
  esac
  shift
done
readonly serve_flags=("$@")

[[ -n "$hostfile" ]] || fail "--hostfile is needed; see --help"
[[ -r "$hostfile" ]] || fail "--hostfile $hostfile: cannot be read"
[[ -n "$model" ]] || fail "--model is needed; see --help"
[[ -z "$workers" ]] || is_count "$workers" || fail "--workers $workers: expected a number from 1"
is_count "$stop_timeout" || fail "--stop-timeout $stop_timeout: expected a number of seconds"
command -v mpirun >/dev/null || fail "no mpirun here: deploy/install-dependencies.sh run"

if [[ -z "$binary" ]]; then
  binary="$root/build/release/pregate"
  [[ -x "$binary" ]] || binary="$(command -v pregate || true)"
fi
[[ -x "$binary" ]] || fail "--binary ${binary:-(none found)}: no program there"
# Other hosts start in another folder.
model="$(realpath -ms "$model")"
binary="$(realpath -ms "$binary")"

# "10.0.0.1:2,10.0.0.2:1": the coordinator and its host's workers first.
num_ranks=0
host_list=""
read_hosts() {
  local line host count number=0
  local -A seen=()
  while IFS= read -r line || [[ -n "$line" ]]; do
    number=$((number + 1))
    line="${line%%#*}"
    read -r host line <<<"$line" || true
    [[ -n "$host" ]] || continue
    [[ -z "${seen[$host]:-}" ]] || fail "$hostfile:$number: $host is there twice"
    seen[$host]=1
    count=1
    if [[ "$line" =~ ^slots=([0-9]+)[[:space:]]*$ ]]; then
      count="${BASH_REMATCH[1]}"
    elif [[ -n "${line//[[:space:]]/}" ]]; then
      fail "$hostfile:$number: $line: expected HOST or HOST slots=N"
    fi
    is_count "$count" || fail "$hostfile:$number: slots=$count: expected a number from 1"
    count="${workers:-$count}"
    if [[ -z "$host_list" ]]; then count=$((count + 1)); fi
    host_list+="${host_list:+,}$host:$count"
    num_ranks=$((num_ranks + count))
  done <"$hostfile"
  ((num_ranks > 0)) || fail "$hostfile: no hosts in it"
}
read_hosts

# Threads are the program's affair, and ranks sleep while they have nothing to do, so neither
# binding nor one core for each rank helps. Open MPI notices that ranks share cores only where it
# knows the cores; without yielding a small message then takes milliseconds.
launcher=(mpirun --host "$host_list" -n "$num_ranks" --map-by slot --bind-to none --oversubscribe
  --mca mpi_yield_when_idle 1 --mca plm_rsh_no_tree_spawn 1)
if [[ -n "$iface" ]]; then
  launcher+=(--mca oob_tcp_if_include "$iface" --mca btl_tcp_if_include "$iface")
fi
if [[ -n "$rsh" ]]; then launcher+=(--mca plm_rsh_agent "$rsh"); fi
for name in "${!PREGATE_@}"; do launcher+=(-x "$name"); done
if [[ "$(id -u)" == 0 ]]; then
  # It refuses root unless told twice.
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi

cluster=""  # Process id of mpirun, in a session of its own: a terminal's Ctrl-C reaches only us.
stopping=false

# SIGUSR1, because mpirun passes it on and waits; to SIGTERM it answers by killing the ranks.
stop_cluster() {
  if [[ -z "$cluster" ]] || $stopping; then exit 143; fi
  stopping=true
  say "stopping; a second signal kills"
  kill -USR1 "$cluster" 2>/dev/null || true
}

kill_cluster() {
  [[ -n "$cluster" ]] && kill -0 "$cluster" 2>/dev/null || return 0
  kill -TERM -- "-$cluster" 2>/dev/null || true
  for ((i = 0; i < 50; i++)); do
    kill -0 "$cluster" 2>/dev/null || return 0
    sleep 0.2
  done
  # It does not end by itself when a host is lost.
  kill -KILL -- "-$cluster" 2>/dev/null || true
}
trap stop_cluster TERM INT HUP
trap kill_cluster EXIT

# wait_for PID: its status, whatever signals arrive meanwhile.
wait_for() {
  local status=0 give_up=""
  while kill -0 "$1" 2>/dev/null; do
    if $stopping && [[ -z "$give_up" ]]; then give_up=$((SECONDS + stop_timeout)); fi
    if [[ -n "$give_up" ]] && ((SECONDS >= give_up)); then
      say "did not stop within $stop_timeout s: killed"
      exit 1
    fi
    sleep 0.2
  done
  wait "$1" || status=$?
  return "$status"
}

if ! $skip_doctor; then
  doctor=("$binary" doctor --model "$model")
  if [[ -n "$iface" ]]; then doctor+=(--iface "$iface"); fi
  status=0
  "${launcher[@]}" --quiet "${doctor[@]}" "${serve_flags[@]}" </dev/null || status=$?
  if [[ $status != 0 ]]; then
    say "not started, because of what is said above; --skip-doctor starts all the same"
    exit 1
  fi
fi

# Without recovery the death of one worker would end all ranks.
setsid "${launcher[@]}" --enable-recovery "$binary" serve --model "$model" "${serve_flags[@]}" \
  </dev/null &
cluster=$!
status=0
wait_for "$cluster" || status=$?
cluster=""
exit "$status"
