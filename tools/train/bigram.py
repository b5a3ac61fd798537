#!/usr/bin/env python3
"""A head start: embedding and output are fitted to how often each token follows each other.

The counts cover the whole training text, of which the training itself sees only a part, and the
fit takes a minute. The layers write nothing at first, so the model begins as this bigram model.
"""

import argparse
import pathlib

import numpy
import torch
from torch.nn import functional as F

import model

STEPS = 80
RATE = 0.05
EMBEDDING_RMS = 1.0


def pair_counts(tokens, vocabulary):
    """How often token j follows token i, [vocabulary, vocabulary]."""
    pairs = tokens[:-1].astype("int64") * vocabulary + tokens[1:]
    counts = numpy.bincount(pairs, minlength=vocabulary * vocabulary)
    return torch.from_numpy(counts.reshape(vocabulary, vocabulary).astype("float32"))


def fit(tokens, vocabulary, hidden, device):
    """Both tables, by some steps of Adam on all counts at once."""
    counts = pair_counts(tokens, vocabulary).to(device)
    counts /= counts.sum()
    random = torch.Generator().manual_seed(0)
    table = torch.randn(vocabulary, hidden, generator=random).to(device).requires_grad_()
    output = torch.zeros(vocabulary, hidden, device=device).requires_grad_()
    optimizer = torch.optim.Adam([table, output], lr=RATE, betas=(0.8, 0.95))
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        normed = F.rms_norm(table, (hidden,), None, 1e-5)
        loss = -(counts * (normed @ output.t()).log_softmax(dim=1)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 9:
            print(f"bigram step {step + 1} of {STEPS} loss {float(loss.detach()):.3f}", flush=True)
    table = F.rms_norm(table, (hidden,), None, 1e-5) * EMBEDDING_RMS
    return {"embed_tokens.weight": table.detach().cpu(), "lm_head.weight": output.detach().cpu()}


def main():
    parser = argparse.ArgumentParser(description="Fits bigram.pt, where both trainings begin.")
    parser.add_argument("--corpus", type=pathlib.Path, required=True, help="made by tokenizer.py")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = model.MOE
    tokens = numpy.load(arguments.corpus / "tokens.npy")
    tables = fit(tokens, shape.vocabulary, shape.hidden, device)
    torch.save(tables, arguments.corpus / "bigram.pt")


if __name__ == "__main__":
    main()
