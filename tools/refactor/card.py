#!/usr/bin/env python3
"""Writes the README.md of a refactored model: what it is, how well it predicts, how it was made."""

import argparse
import json
import math
import pathlib

from safetensors import safe_open


def shapes(folder):
    """{tensor: shape} of model.safetensors."""
    with safe_open(folder / "model.safetensors", framework="np") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}


def widths_table(found, layers, experts):
    """Channels of each layer: shared, and each expert's own."""
    out = ["| layer | shared | own, by expert |", "| --- | ---: | --- |"]
    for layer in range(layers):
        stem = f"model.layers.{layer}.moe.gate_proj"
        own = [str(found[f"{stem}_{expert}.weight"][0]) for expert in range(experts)]
        out.append(f"| {layer} | {found[f'{stem}_residual.weight'][0]} | {', '.join(own)} |")
    return "\n".join(out)


def results_table(evals):
    """Bits per byte of the dense model, this one, and perhaps a dense one of half the width."""
    names = ["dense", "this model", "dense, half as wide"][: len(evals)]
    out = ["| domain | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(evals)]
    rows = [(name, [each["texts"][name] for each in evals]) for name in sorted(evals[0]["texts"])]
    for name, row in [*rows, ("all", [each["all"] for each in evals])]:
        out.append(" | ".join([f"| {name}", *(f"{x['bits_per_byte']:.4f}" for x in row)]) + " |")
    return "\n".join(out)


def comparison(evals, config):
    """What the table says of the dense model of half the width."""
    if len(evals) < 3:
        return "There is no dense model of that size to compare with yet."
    _, ours, narrow = (each["all"]["bits_per_byte"] for each in evals)
    more = 100 * (ours / narrow - 1)
    verdict = f"{abs(more):.1f} % {'more' if more > 0 else 'fewer'} bits"
    width = config["intermediate_size"] // 2
    return f"""The dense model half as wide, with MLPs of {width} and no router, was
trained as the dense model was, on as many tokens (`train.py dense --intermediate {width}`).
This model takes {verdict} than that one; it has seen the tokens of its refactoring besides."""


def rounds_table(log):
    """A line for each half of a round."""
    out = ["| round | trained | tokens so far | held-out bits per byte | router agrees |"]
    out.append("| --- | --- | ---: | ---: | ---: |")
    for line in log:
        agreement = f"{line['agreement']:.3f}" if "agreement" in line else ""
        out.append(
            f"| {line['round']} | {line['phase']} | {line['tokens']} | "
            f"{line['heldout_bits_per_byte']:.4f} | {agreement} |"
        )
    return "\n".join(out)


def card(folder, dense, log, evals, command):
    """The text of README.md."""
    config = json.loads((folder / "config.json").read_text())
    layers, experts = config["num_hidden_layers"], config["N_cluster"]
    found = shapes(folder)
    in_router = [shape for name, shape in found.items() if name.startswith("cluster_predictor.")]
    router = sum(math.prod(shape) for shape in in_router)
    size = (folder / "model.safetensors").stat().st_size / 1e6
    return f"""# {folder.name}

`{dense.name}` refactored as Read-ME does it (Cai et al. 2024, arXiv 2410.19123): a router
that reads only token ids chooses one of {experts} experts for a token, the same in all {layers}
layers, before anything is computed. {size:.1f} MB in bf16; the router has {router} parameters. Made
by `tools/refactor`, form *unfused*.

It ships so that look-ahead, batching by expert and caches can be tried with a router that was
trained. Its limits, data and licences are those of `{dense.name}`; see its card.

```
build/release/pregate serve --model models/{folder.name} --expert-memory 2M --lookahead pregate
```

## Results on held-out text, bits per byte

{results_table(evals)}

Weights bf16 as stored, arithmetic f32: `pregate eval --weights f32 --window-tokens 2048` on the
held-out texts of `tools/train`. A token passes half of the dense model's MLP channels.
{comparison(evals, config)}

## Experts

MLP channels kept of the dense model's {config["intermediate_size"]}: of each domain the half with
the largest mean magnitude; shared is what all domains kept.

{widths_table(found, layers, experts)}

## Training

`{command}`

{rounds_table(log)}

*Router agrees*: how often it chooses the expert of which the dense model uses most channels. The
model is of the round that did best on held-out text (a small part of it).
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True, help="of convert.py")
    parser.add_argument("--dense", type=pathlib.Path, required=True, help="what was refactored")
    parser.add_argument("--log", type=pathlib.Path, required=True, help="log.jsonl, of rounds.py")
    parser.add_argument(
        "--evals",
        type=pathlib.Path,
        nargs=2,
        required=True,
        help="what `pregate eval --json` says of the dense model, and of this one",
    )
    parser.add_argument(
        "--narrow", type=pathlib.Path, help="what it says of a dense model half as wide, if any"
    )
    parser.add_argument("--command", default="tools/refactor/refactor.sh", help="that made it")
    arguments = parser.parse_args()
    log = [json.loads(line) for line in arguments.log.read_text().splitlines()]
    narrow = [arguments.narrow] if arguments.narrow else []
    evals = [json.loads(path.read_text()) for path in [*arguments.evals, *narrow]]
    dense = arguments.dense.resolve()
    text = card(arguments.model.resolve(), dense, log, evals, arguments.command)
    (arguments.model / "README.md").write_text(text)


if __name__ == "__main__":
    main()
