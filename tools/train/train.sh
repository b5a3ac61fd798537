#!/usr/bin/env bash
# Rebuilds models/pregate-tiny and models/pregate-tiny-dense from Debian packages, or goes on where
# an earlier run of it stopped: corpus, tokenizer, bigram fit, both trainings one after the other,
# export, evaluation, routing traces, model cards.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=build/train
minutes=120
tokens=
device=auto
start=false
models=$here/../../models
traces=$here/../../bench/traces
pregate=$here/../../build/release/pregate
trace_tokens=18000

usage() {
  cat <<EOF
usage: tools/train/train.sh [--work DIR] [--models DIR] [--traces DIR] [--pregate FILE]
                            [--minutes N | --tokens N] [--start] [--device D]

  --work DIR     packages, corpus, checkpoints, logs (default build/train; about 2 GB)
  --models DIR   where the two model folders go (default models)
  --traces DIR   where the routing traces go (default bench/traces)
  --pregate FILE the binary that evaluates and traces (default build/release/pregate)
  --minutes N    how long both trainings take together (default 120): the dense one a fifth of it
  --tokens N     train on so many tokens instead, however long it takes: repeatable exactly
  --start        train the models in DIR further, instead of new ones, with the tokens that follow
  --device D     auto, cpu or cuda (default auto)

Called again it goes on from the last checkpoints. Needs Debian 12 with apt's lists up to date, xz,
and Python with the packages of tools/train/requirements.txt; PYTHON names the interpreter.
EOF
}

while [ $# -gt 0 ]; do
  case $1 in
    --work) work=$2; shift 2 ;;
    --models) models=$2; shift 2 ;;
    --traces) traces=$2; shift 2 ;;
    --pregate) pregate=$2; shift 2 ;;
    --start) start=true; shift ;;
    --minutes) minutes=$2; shift 2 ;;
    --tokens) tokens=$2; shift 2 ;;
    --device) device=$2; shift 2 ;;
    --help) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
done

[ -x "$pregate" ] || { echo "train.sh: $pregate: build it first, or see --pregate" >&2; exit 1; }
python=${PYTHON:-python3}
mkdir -p "$work" "$models" "$traces"
work=$(cd "$work" && pwd)
models=$(cd "$models" && pwd)
traces=$(cd "$traces" && pwd)
pregate=$(realpath "$pregate")
cd "$here"

[ -e "$work/corpus.json" ] || "$python" corpus.py --work "$work" --out "$work"
[ -e "$work/tokenizer_report.json" ] || "$python" tokenizer.py --corpus "$work"
[ -e "$work/bigram.pt" ] || "$python" bigram.py --corpus "$work"

# A run that starts from the shipped models has folders of its own.
run_of() { if $start; then echo "$work/$1-further"; else echo "$work/$1"; fi; }

# NAME FOLDER TENTHS: a process of one thread for each core, which share every batch.
train() {
  local run
  run=$(run_of "$1")
  local options=(--device "$device" --processes "$processes" --resume)
  if [ -n "$tokens" ]; then
    options+=(--tokens "$tokens")
  else
    options+=(--minutes "$((minutes * $3 / 10))")
  fi
  if $start; then options+=(--start "$models/$2"); fi
  [ -e "$run/done" ] || OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive nice -n 19 "$python" \
    train.py "$1" --corpus "$work" --out "$run" "${options[@]}" 2>&1 | tee -a "$run.out"
}

# NAME FOLDER
finish() {
  local run
  run=$(run_of "$1")
  "$python" export.py --checkpoint "$run/checkpoint.pt" --tokenizer "$work/tokenizer.json" \
    --out "$models/$2"
  local context
  context=$(sed -n 's/.*"max_position_embeddings": \([0-9]*\).*/\1/p' "$models/$2/config.json")
  local measure=(--model "$models/$2" --weights f32 --window-tokens "$context")
  "$python" evaluate.py --model "$models/$2" --corpus "$work" --out "$run/report.json"
  if [ "$1" = moe ]; then
    "$pregate" eval "${measure[@]}" --json "$work"/heldout/*.txt >"$run/engine.json"
    "$pregate" trace "${measure[@]}" --max-tokens "$trace_tokens" --out "$traces" \
      "$work"/heldout/*.txt >"$run/routing.txt"
  fi
  "$python" card.py --model "$models/$2" --corpus "$work" --run "$run"
}

processes=1
has_gpu() { "$python" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())'; }
if [ "$device" = cpu ] || ! has_gpu; then processes=$(nproc); fi
train moe pregate-tiny 8
finish moe pregate-tiny
train dense pregate-tiny-dense 2
finish dense pregate-tiny-dense
