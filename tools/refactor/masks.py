#!/usr/bin/env python3
"""Which channels of the dense model's MLPs are whose: mask.pt from activation statistics.

Of each domain and layer the channels are kept whose mean magnitude lies strictly above the N-th
largest, N = half of them; what all domains keep is the shared part, the rest of a domain's is its
expert's own. As published (arXiv 2410.19123, section 3, and the code that came with it).
"""

import argparse
import json
import pathlib

import torch
from safetensors import safe_open

KEEP = 0.5


def read_statistics(path):
    """(domains, mean magnitudes [domain, layer, channel]) as `pregate activations` writes them."""
    with safe_open(path, "pt") as file:
        domains = sorted(file.keys())
        return domains, torch.stack([file.get_tensor(name) for name in domains])


def split(means, keep=KEEP):
    """bool (shared [layer, channel], own [layer, domain, channel]) of [domain, layer, channel]."""
    count = int(keep * means.shape[2])
    least = means.sort(dim=2, descending=True).values[:, :, count - 1 : count]
    kept = (means > least).transpose(0, 1)
    shared = kept.all(dim=1)
    return shared, kept & ~shared.unsqueeze(1)


def write(path, shared, own):
    """mask.pt in the published form."""
    masks = {}
    for layer in range(len(shared)):
        entry = {"residual": shared[layer].half()}
        entry.update({expert: each.half() for expert, each in enumerate(own[layer])})
        masks[f"module.model.layers.{layer}.mlp.down_proj"] = entry
    torch.save(masks, path)


def read(path):
    """(shared [layer, channel], own [layer, expert, channel]) of mask.pt, as bool."""
    layers = list(torch.load(path, map_location="cpu", weights_only=True).values())
    shared = torch.stack([layer["residual"] for layer in layers]).bool()
    experts = range(len(layers[0]) - 1)
    own = torch.stack([torch.stack([layer[e] for e in experts]) for layer in layers]).bool()
    return shared, own


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--activations", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="mask.pt")
    arguments = parser.parse_args()
    domains, means = read_statistics(arguments.activations)
    shared, own = split(means)
    write(arguments.out, shared, own)
    facts = dict(
        domains=domains,
        channels=means.shape[2],
        shared=shared.sum(dim=1).tolist(),
        own=own.sum(dim=2)[:, 0].tolist(),
    )
    arguments.out.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
