#!/usr/bin/env bash
# Turns a dense Llama into experts and a pre-gating router, as Read-ME does (arXiv 2410.19123), or
# goes on where an earlier run of it stopped: sample of the texts, activation statistics through the
# engine, masks, rounds of training, the model folder, its bits per byte, its card.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
work=build/refactor
dense=$here/../../models/pregate-tiny-dense
corpus=build/train
out=
form=unfused
narrow=
budget=(--minutes 60)
device=auto
pregate=$here/../../build/release/pregate

usage() {
  cat <<EOF
usage: tools/refactor/refactor.sh --out DIR [--dense DIR] [--corpus DIR] [--work DIR] [--form F]
                                  [--minutes N | --tokens N] [--device D] [--pregate FILE]
                                  [--narrow DIR] [-- OPTIONS]

  --out DIR      the model folder to write
  --dense DIR    the model to refactor (default models/pregate-tiny-dense)
  --corpus DIR   what tools/train made: texts by domain, tokens (default build/train)
  --work DIR     statistics, masks, checkpoint, log (default build/refactor)
  --form F       unfused, fused or masked (default unfused)
  --minutes N    how long the training takes (default 60)
  --tokens N     train on so many tokens instead: repeatable exactly
  --device D     auto, cpu or cuda (default auto)
  --pregate FILE the binary that measures (default build/release/pregate)
  --narrow DIR   a dense model half as wide (train.py dense --intermediate), for the card to compare
  -- OPTIONS     what else rounds.py is told, as --distil 0.8 --rounds 3

Needs Python with the packages of tools/train/requirements.txt; PYTHON names the interpreter.
EOF
}

while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2; shift 2 ;;
    --dense) dense=$2; shift 2 ;;
    --corpus) corpus=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    --form) form=$2; shift 2 ;;
    --minutes | --tokens) budget=("$1" "$2"); shift 2 ;;
    --device) device=$2; shift 2 ;;
    --pregate) pregate=$2; shift 2 ;;
    --narrow) narrow=$2; shift 2 ;;
    --help) usage; exit ;;
    --) shift; break ;;
    *) usage >&2; exit 2 ;;
  esac
done

[ -n "$out" ] || { usage >&2; exit 2; }
[ -x "$pregate" ] || { echo "refactor.sh: $pregate: build it first, or see --pregate" >&2; exit 1; }
if [ ! -e "$corpus/tokens.npy" ]; then
  echo "refactor.sh: $corpus: no corpus; tools/train/train.sh makes one" >&2
  exit 1
fi
python=${PYTHON:-python3}
mkdir -p "$work"
context=$(sed -n 's/.*"max_position_embeddings": \([0-9]*\).*/\1/p' "$dense/config.json")
measure=(--weights f32 --window-tokens "$context")

[ -d "$work/sample" ] || "$python" "$here/sample.py" --corpus "$corpus" --out "$work/sample"
[ -e "$work/activations.safetensors" ] || "$pregate" activations --model "$dense" "${measure[@]}" \
  --out "$work/activations.safetensors" "$work"/sample/*.txt
[ -e "$work/mask.pt" ] || "$python" "$here/masks.py" --activations "$work/activations.safetensors" \
  --out "$work/mask.pt"
[ -e "$work/checkpoint.pt" ] || "$python" "$here/rounds.py" --dense "$dense" \
  --masks "$work/mask.pt" --corpus "$corpus" --out "$work" --device "$device" "${budget[@]}" \
  "$@"
"$python" "$here/convert.py" --checkpoint "$work/checkpoint.pt" --dense "$dense" \
  --masks "$work/mask.pt" --form "$form" --out "$out"

evaluate() { "$pregate" eval --model "$1" "${measure[@]}" "${@:2}" "$corpus"/heldout/*.txt; }
if [ "$form" != unfused ]; then
  evaluate "$out"
  exit
fi
evaluate "$dense" --json >"$work/eval_dense.json"
evaluate "$out" --json >"$work/eval.json"
compared=()
if [ -n "$narrow" ]; then
  evaluate "$narrow" --json >"$work/eval_narrow.json"
  compared=(--narrow "$work/eval_narrow.json")
fi
"$python" "$here/card.py" --model "$out" --dense "$dense" --log "$work/log.jsonl" \
  --evals "$work/eval_dense.json" "$work/eval.json" "${compared[@]}" \
  --command "tools/refactor/refactor.sh ${budget[*]}${*:+ -- $*}"
sed -n '/^## Results/,/^Weights/p' "$out/README.md"
