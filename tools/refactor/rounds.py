#!/usr/bin/env python3
"""Trains router and experts of the refactored model in turns; writes checkpoint.pt and log.jsonl.

A round is some steps of the router with all else frozen, then three times as long of all else with
the router frozen. The router learns which expert's own channels the dense model uses most for a
token; the rest learns to predict text with half of its channels, from the text and, with
--distil, from what the dense model says of it. The checkpoint is of the round that did best on
held-out text.
"""

import argparse
import json
import math
import pathlib
import shutil
import sys
import time

import numpy
import torch
from torch.nn import functional as F

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "train"))

import data  # noqa: E402
import export  # noqa: E402
import masks  # noqa: E402
import model  # noqa: E402
import optimizer  # noqa: E402
import refactored  # noqa: E402
import train  # noqa: E402
from tokenizer import END_OF_TEXT  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

ROUTER_SHARE, DECAY = 0.25, 0.8
RATES = dict(matrices=0.003, embedding=0.0006, output=0.0003, rest=0.0003)
ROUTER_RATE, WEIGHT_DECAY = 1e-3, 0.01
WARM_UP_STEPS = 20
# The loss of the router: hard and soft targets, as the published code weighs them.
HARD, SMOOTHING, SHARPNESS = 0.75, 0.5, 10.0
LENGTH = 1024


def router_loss(logits, overlap):
    """Cross-entropy with the expert of largest overlap and with the softmax of all overlaps."""
    logits, overlap = logits.flatten(0, 1).float(), overlap.flatten(0, 1)
    sharp = (SHARPNESS * (overlap - overlap.mean(dim=1, keepdim=True))).softmax(dim=1)
    hard = F.cross_entropy(logits, overlap.argmax(dim=1), label_smoothing=SMOOTHING)
    return HARD * hard + (1 - HARD) * F.cross_entropy(logits, sharp)


class Rounds:
    """The state of the training."""

    def __init__(self, arguments):
        self.arguments, self.device = arguments, torch.device(arguments.device)
        config = json.loads((arguments.dense / "config.json").read_text())
        shared, own = masks.read(arguments.masks)
        shape = refactored.predictor_shape(config, own.shape[1], arguments.embedding)
        precision = arguments.precision
        torch.manual_seed(arguments.seed)
        self.dense = refactored.observed(arguments.dense, config, precision).to(self.device)
        self.net = refactored.Refactored(config, shared, own, shape, precision)
        self.net.backbone.load_state_dict(export.state_of(arguments.dense)[0])
        self.net.predictor.start_from(self.net.backbone.embed_tokens.weight)
        self.net, self.own = self.net.to(self.device), own.to(self.device)
        self.rest = optimizer.build(self.net.backbone, RATES, precision)
        self.router = torch.optim.AdamW(
            self.net.predictor.parameters(), lr=ROUTER_RATE, weight_decay=WEIGHT_DECAY
        )
        self.router.param_groups[0]["peak"] = ROUTER_RATE
        end = Tokenizer.from_file(str(arguments.corpus / "tokenizer.json")).token_to_id(END_OF_TEXT)
        tokens = numpy.load(arguments.corpus / "tokens.npy")
        self.batches = data.Batches(tokens, end, arguments.seed + 1, arguments.batch_tokens)
        self.probe = train.Probe(arguments.corpus, self.device)
        self.step, self.tokens, self.seconds = 0, 0, 0.0

    def router_step(self, inputs):
        overlap = refactored.overlaps(self.dense, inputs, self.own)
        logits = self.net.predictor(inputs)
        loss = router_loss(logits, overlap)
        loss.backward()
        self.router.step()
        self.router.zero_grad()
        right = logits.argmax(dim=-1) == overlap.argmax(dim=-1)
        return loss.detach(), right.float().mean()

    def expert_step(self, inputs, targets):
        weight = self.arguments.distil
        teacher = self.dense.teach(inputs, weight) if weight else None
        loss, _ = self.net(inputs, targets, teacher=teacher)
        loss.backward()
        for each in self.rest:
            each.step()
            each.zero_grad()
        return loss.detach()

    def phase(self, number, name, begin, end):
        """Steps of one kind until `end` of the budget is spent."""
        optimizers = [self.router] if name == "router" else self.rest
        steps, total, right = 0, 0.0, 0.0
        while (spent := self.spent()) < end:
            fall = math.cos(math.pi / 2 * min(1.0, (spent - begin) / (end - begin)))
            warm = min(1.0, (steps + 1) / WARM_UP_STEPS)
            optimizer.set_rates(optimizers, warm * DECAY**number * max(0.02, fall))
            inputs, targets = (each.to(self.device) for each in self.batches.next(LENGTH))
            if name == "router":
                loss, hits = self.router_step(inputs)
                right = right + hits
            else:
                loss = self.expert_step(inputs, targets)
            total, steps = total + loss, steps + 1
            self.step, self.tokens = self.step + 1, self.tokens + targets.numel()
        mean = (float(sum_) / max(1, steps) for sum_ in (total, right))
        return self.note(number, name, *mean, steps)

    def spent(self):
        arguments = self.arguments
        if arguments.tokens:
            return self.tokens / arguments.tokens
        return (time.time() - arguments.began) / (60 * arguments.minutes)

    def note(self, number, name, loss, right, steps):
        with torch.no_grad():
            bits = self.probe(self.net)
        entry = dict(round=number, phase=name, steps=steps, tokens=self.tokens, loss=loss)
        entry.update(heldout_bits_per_byte=bits)
        if name == "router":
            entry["agreement"] = right
        with open(self.arguments.out / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")
        print(json.dumps(entry), flush=True)
        return bits

    def run(self):
        length, best = 1 / self.arguments.rounds, math.inf
        for number in range(self.arguments.rounds):
            begin = number * length
            middle = begin + ROUTER_SHARE * length
            self.phase(number, "router", begin, middle)
            bits = self.phase(number, "experts", middle, begin + length)
            if bits < best:
                self.save()
                best = bits

    def save(self):
        state = dict(
            backbone=self.net.backbone.state_dict(),
            predictor=self.net.predictor.state_dict(),
            predictor_shape=self.net.predictor.shape._asdict(),
            tokens=self.tokens,
        )
        torch.save(state, self.arguments.out / "checkpoint.new")
        (self.arguments.out / "checkpoint.new").replace(self.arguments.out / "checkpoint.pt")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dense", type=pathlib.Path, required=True, help="the dense folder")
    parser.add_argument("--masks", type=pathlib.Path, required=True, help="mask.pt, of masks.py")
    parser.add_argument("--corpus", type=pathlib.Path, required=True, help="of tools/train")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="checkpoint and log")
    parser.add_argument("--minutes", type=float, default=60, help="the budget (default 60)")
    parser.add_argument("--tokens", type=float, help="the budget, instead of --minutes")
    parser.add_argument("--rounds", type=int, default=8, help="(default 8)")
    parser.add_argument(
        "--batch-tokens", type=int, default=data.BATCH_TOKENS, help="of a step (default 8192)"
    )
    parser.add_argument(
        "--distil",
        type=float,
        default=0,
        metavar="SHARE",
        help="how much of the experts' targets is what the dense model says (default 0)",
    )
    parser.add_argument("--embedding", type=int, default=128, help="the router's (default 128)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    arguments = parser.parse_args()
    if arguments.device == "auto":
        arguments.device = "cuda" if torch.cuda.is_available() else "cpu"
    arguments.precision = train.PRECISIONS[train.fast_precision(arguments.device)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)
    if not arguments.eager and shutil.which("c++"):
        model.fuse()
    rounds = Rounds(arguments)
    arguments.began = time.time()
    rounds.run()


if __name__ == "__main__":
    main()
