#!/usr/bin/env python3
"""Writes tests/golden/data/pregate-tiny.txt: what transformers says of the model that ships.

A line for each trace of bench/traces: its name, how many tokens of its first window are read, and
the sum of -log2 of the probabilities of all of them but the first. f32, eager, on the CPU.
"""

import math
import pathlib

import safetensors.torch
import torch
import transformers

ROOT = pathlib.Path(__file__).parents[2]
OUT = ROOT / "tests/golden/data/pregate-tiny.txt"
MAX_TOKENS = 512


def bits(model, ids):
    with torch.no_grad():
        logits = model(ids[None]).logits[0, :-1].double()
    nats = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="sum")
    return float(nats) / math.log(2)


def main():
    model = transformers.AutoModelForCausalLM.from_pretrained(
        ROOT / "models/pregate-tiny", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    lines = []
    for path in sorted((ROOT / "bench/traces").glob("*.safetensors")):
        trace = safetensors.torch.load_file(path)
        end = (trace["starts"].tolist() + [len(trace["tokens"])])[1]
        ids = trace["tokens"][: min(end, MAX_TOKENS)].long()
        lines.append(f"{path.stem} {len(ids)} {bits(model, ids):.4f}\n")
    OUT.write_text("".join(lines))


if __name__ == "__main__":
    main()
