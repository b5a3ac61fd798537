#!/usr/bin/env bash
# Rebuilds models/pregate-tiny and models/pregate-tiny-dense from Debian packages, or goes on where
# an earlier run of it stopped: corpus, tokenizer, bigram fit, both trainings side by side, export,
# evaluation, model cards.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=build/train
minutes=120
tokens=
device=auto
models=$here/../../models

usage() {
  cat <<EOF
usage: tools/train/train.sh [--work DIR] [--models DIR] [--minutes N | --tokens N] [--device D]

  --work DIR     packages, corpus, checkpoints, logs (default build/train; about 2 GB)
  --models DIR   where the two model folders go (default models)
  --minutes N    how long both trainings take together, side by side (default 120)
  --tokens N     train on so many tokens instead, however long it takes: repeatable exactly
  --device D     auto, cpu or cuda (default auto)

Called again it goes on from the last checkpoints. Needs Debian 12 with apt's lists up to date, xz,
and Python with the packages of tools/train/requirements.txt; PYTHON names the interpreter.
EOF
}

while [ $# -gt 0 ]; do
  case $1 in
    --work) work=$2; shift 2 ;;
    --models) models=$2; shift 2 ;;
    --minutes) minutes=$2; shift 2 ;;
    --tokens) tokens=$2; shift 2 ;;
    --device) device=$2; shift 2 ;;
    --help) usage; exit ;;
    *) usage >&2; exit 2 ;;
  esac
done

python=${PYTHON:-python3}
mkdir -p "$work" "$models"
work=$(cd "$work" && pwd)
models=$(cd "$models" && pwd)
cd "$here"

[ -e "$work/corpus.json" ] || "$python" corpus.py --work "$work" --out "$work"
[ -e "$work/tokenizer_report.json" ] || "$python" tokenizer.py --corpus "$work"
[ -e "$work/bigram.pt" ] || "$python" bigram.py --corpus "$work"

# One thread each: on two cores two trainings are faster than one with two threads.
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive
budget=(--minutes "$minutes")
[ -z "$tokens" ] || budget=(--tokens "$tokens")
for name in moe dense; do
  [ ! -e "$work/$name/done" ] || continue
  nice -n 19 "$python" train.py "$name" --corpus "$work" --out "$work/$name" --device "$device" \
    "${budget[@]}" --resume 2>&1 | tee -a "$work/$name.out" &
done
wait

finish() {
  "$python" export.py --checkpoint "$work/$1/checkpoint.pt" --tokenizer "$work/tokenizer.json" \
    --out "$models/$2"
  "$python" evaluate.py --model "$models/$2" --corpus "$work" --out "$work/$1/report.json"
  "$python" card.py --model "$models/$2" --corpus "$work" --run "$work/$1"
}
for name in moe dense; do
  [ -e "$work/$name/done" ] || { echo "train.sh: the training of $name failed" >&2; exit 1; }
done
finish moe pregate-tiny
finish dense pregate-tiny-dense
