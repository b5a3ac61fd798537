#!/usr/bin/env python3
"""Trains the MoE model or its dense sibling from tokens.npy and bigram.pt.

Writes checkpoint.pt and log.jsonl.

The learning rate warms up, stays, and falls to nearly nothing; the rows grow from 512 to 2048
tokens. Both follow the share of the budget that is spent: --tokens for a run that can be repeated
exactly, or --minutes for one that ends on time on a machine that is busy.
"""

import argparse
import json
import math
import pathlib
import shutil
import time

import numpy
import torch
from tokenizers import Tokenizer

import data
import export
import graphs
import model
import optimizer
import processes
from tokenizer import END_OF_TEXT, documents, domains

RATES = dict(matrices=0.01, embedding=0.002, output=0.0008, rest=0.001)
WARM_UP_STEPS = 40
DECAY_FROM = 0.45
LAST_RATE = 0.02
# From this share of the budget on, rows of so many tokens.
LENGTHS = ((0.0, 512), (0.5, 1024), (0.8, 2048))
BALANCE, Z_LOSS = 0.02, 1e-4
PRECISIONS = dict(bf16=torch.bfloat16, f32=torch.float32)
SECONDS_BETWEEN_CHECKPOINTS = 600
PROBE_STEPS, PROBE_WINDOWS = 100, 2


def rate_at(step, spent, started):
    """The learning rate over its peak; that of a model to start from falls from the beginning."""
    warm = min(1.0, (step + 1) / WARM_UP_STEPS)
    fall = min(1.0, (1.0 - spent) / (1.0 - (0.0 if started else DECAY_FROM)))
    return warm * (LAST_RATE + (1.0 - LAST_RATE) * max(0.0, fall))


def length_at(spent):
    """The tokens of a row."""
    return [length for start, length in LENGTHS if spent >= start][-1]


class Probe:
    """A glance at the held-out text: bits per byte of a few windows of each domain."""

    def __init__(self, corpus, device):
        tokenizer = Tokenizer.from_file(str(corpus / "tokenizer.json"))
        end, rows, self.size = tokenizer.token_to_id(END_OF_TEXT), [], 0
        for domain in domains(corpus):
            ids = tokenizer.encode("".join(documents(corpus / f"heldout/{domain}.txt")[:9])).ids
            whole = ids[: len(ids) // data.BLOCK * data.BLOCK]
            for window in data.windows(whole, data.BLOCK)[:PROBE_WINDOWS]:
                rows.append(window)
                self.size += len(tokenizer.decode(window).encode())
        self.targets = torch.tensor(rows, device=device)
        self.inputs = data.shifted(self.targets, end)

    @torch.no_grad()
    def __call__(self, net):
        pairs = zip(self.inputs.split(2), self.targets.split(2))
        nats = sum(float(net(x, y)[0]) * y.numel() for x, y in pairs)
        return nats / math.log(2) / self.size


class Run:
    """The state of a training, from its start or from a checkpoint."""

    def __init__(self, arguments):
        self.arguments, self.folder = arguments, arguments.out
        self.device = torch.device(arguments.device)
        shape = model.MOE if arguments.model == "moe" else model.DENSE
        if arguments.intermediate:
            shape = shape._replace(intermediate=arguments.intermediate)
        self.net = model.Model(shape, arguments.seed, arguments.precision).to(self.device)
        self.before = 0
        if arguments.start:
            state, self.before = export.state_of(arguments.start)
            self.net.load_state_dict(model.deepened(state, shape.layers))
        else:
            tables = torch.load(arguments.corpus / "bigram.pt", map_location=self.device)
            self.net.load_state_dict(tables, strict=False)
        self.rates = dict(RATES, matrices=arguments.rate)
        self.optimizers = optimizer.build(
            self.net, self.rates, arguments.precision, arguments.graphs
        )
        self.compute = graphs.Replayed(self._compute) if arguments.graphs else self._compute
        tokenizer = Tokenizer.from_file(str(arguments.corpus / "tokenizer.json"))
        tokens = numpy.load(arguments.corpus / "tokens.npy")
        end = tokenizer.token_to_id(END_OF_TEXT)
        self.batches = data.Batches(tokens, end, arguments.seed)
        self.batches.skip(self.before)
        self.probe = Probe(arguments.corpus, self.device)
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        if arguments.resume and (self.folder / "checkpoint.pt").exists():
            self.restore()

    def save(self):
        if processes.rank():
            return
        state = dict(
            model=self.net.state_dict(),
            optimizers=[each.state_dict() for each in self.optimizers],
            batches=self.batches.state(),
            counters=dict(
                step=self.step, tokens=self.tokens, before=self.before, seconds=self.seconds
            ),
            shape=self.net.shape._asdict(),
            rates=self.rates,
            seed=self.arguments.seed,
        )
        torch.save(state, self.folder / "checkpoint.new")
        (self.folder / "checkpoint.new").replace(self.folder / "checkpoint.pt")

    def restore(self):
        state = torch.load(self.folder / "checkpoint.pt", map_location=self.device)
        self.net.load_state_dict(state["model"])
        for each, saved in zip(self.optimizers, state["optimizers"]):
            each.load_state_dict(saved)
        self.batches.restore(state["batches"])
        self.__dict__.update(state["counters"])
        print(f"resuming at step {self.step}", flush=True)

    def spent(self):
        """The share of the budget that is gone. A deadline counts from what was spent before."""
        arguments = self.arguments
        if arguments.tokens:
            return self.tokens / arguments.tokens
        left = arguments.deadline - time.time()
        return processes.agree(self.seconds / max(1e-9, self.seconds + max(0.0, left)))

    def stopped(self):
        """Whether it is time to leave the rest of --tokens to a run that resumes."""
        arguments = self.arguments
        if not (arguments.tokens and arguments.until):
            return False
        return bool(processes.agree(float(time.time() >= arguments.until)))

    def train_step(self, spent):
        """One batch; returns the loss and what the router did, or nothing, still on the device."""
        factor = rate_at(self.step, spent, bool(self.arguments.start))
        optimizer.set_rates(self.optimizers, factor)
        batch = self.batches.next(length_at(spent))
        self.step += 1
        self.tokens += batch[1].numel()
        return self.compute(*(data.moved(each, self.device) for each in batch))

    def _compute(self, inputs, targets):
        """Gradients and the optimizers' step."""
        for each in self.optimizers:
            each.zero_grad()
        loss, routing = self.net(processes.part(inputs), processes.part(targets))
        total = loss
        if routing is not None:
            total = loss + BALANCE * routing[:, 0].sum() + Z_LOSS * routing[:, 1].sum()
        total.backward()
        processes.average([each.grad for each in self.net.parameters()])
        for each in self.optimizers:
            each.step()
        facts = loss.new_empty(0) if routing is None else routing.detach().mean(dim=0)
        return loss.detach(), facts

    def note(self, spent, rate, loss, facts):
        """One line to watch, one to keep."""
        if processes.rank():
            return
        left = self.seconds / max(spent, 1e-9) * (1 - spent)
        entry = dict(step=self.step, tokens=self.tokens, before=self.before, loss=loss)
        entry.update(seconds=round(self.seconds), spent=spent, rate=rate, routing=facts)
        entry["machine"] = machine(self.device)
        if self.step % PROBE_STEPS == 0:
            entry["heldout_bits_per_byte"] = self.probe(self.net)
        with open(self.folder / "log.jsonl", "a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")
        probe = entry.get("heldout_bits_per_byte")
        print(
            f"{self.arguments.model} step {self.step} {self.tokens / 1e6:.2f}M tokens "
            f"{rate:.0f}/s loss {loss:.3f} {100 * spent:.1f} % {left / 60:.0f} min left"
            + (f" busiest expert {facts[2]:.1f}x" if facts else "")
            + (f" held-out {probe:.3f} bits/byte" if probe else ""),
            flush=True,
        )

    def loop(self):
        saved, noted, losses, before = time.time(), time.time(), [], self.tokens
        while (spent := self.spent()) < 1.0 and not self.stopped():
            start = time.time()
            loss, facts = self.train_step(spent)
            losses.append(loss)
            if self.step % 20 == 0 or self.step <= 5:
                # First, as it waits for a device to have done what it was given.
                loss = float(sum(losses)) / len(losses)
                rate = (self.tokens - before) / (time.time() - noted)
                self.note(spent, rate, loss, facts.tolist())
                noted, before, losses = time.time(), self.tokens, []
            if time.time() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                self.save()
                saved = time.time()
            self.seconds += time.time() - start
        self.save()
        end = "stopped"
        if spent >= 1.0:
            (self.folder / "done").touch()
            end = "done"
        print(f"{end}: {self.step} steps, {self.tokens} tokens, {self.seconds:.0f} s", flush=True)


def machine(device):
    """What the training ran on, for the model's card."""
    if device.type == "cuda":
        return f"one {torch.cuda.get_device_name(device)}"
    return f"{processes.count()} CPU cores"


def fast_precision(device):
    """bf16 where the processor multiplies it faster than f32."""
    flags = pathlib.Path("/proc/cpuinfo")
    has_bf16 = flags.exists() and "avx512_bf16" in flags.read_text(encoding="utf-8")
    return "bf16" if device == "cuda" or has_bf16 else "f32"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=("moe", "dense"))
    parser.add_argument("--corpus", type=pathlib.Path, required=True, help="made by tokenizer.py")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="checkpoint and log")
    parser.add_argument("--minutes", type=float, default=120, help="the budget (default 120)")
    parser.add_argument("--tokens", type=float, help="the budget, instead of --minutes")
    parser.add_argument("--until", type=float, help="the end as Unix time, of --tokens too")
    parser.add_argument("--start", type=pathlib.Path, help="go on from this exported model folder")
    parser.add_argument("--intermediate", type=int, help="width of the MLP or of an expert")
    parser.add_argument(
        "--rate", type=float, default=RATES["matrices"], help="Muon's peak (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="on a CPU (default 1)")
    parser.add_argument("--processes", type=int, default=1, help="share each batch (default 1)")
    parser.add_argument(
        "--precision", choices=PRECISIONS, help="of products (default bf16 where it is fast)"
    )
    parser.add_argument("--eager", action="store_true", help="compile nothing: half as fast")
    parser.add_argument("--graphs", action="store_true", help="replay steps as CUDA graphs")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--resume", action="store_true", help="from OUT/checkpoint.pt, if any")
    arguments = parser.parse_args()
    if arguments.device == "auto":
        arguments.device = "cuda" if torch.cuda.is_available() else "cpu"
    if arguments.graphs and (arguments.device == "cpu" or arguments.processes > 1):
        parser.error("--graphs is for one process and a GPU")
    arguments.precision = PRECISIONS[arguments.precision or fast_precision(arguments.device)]
    arguments.deadline = arguments.until or time.time() + 60 * arguments.minutes
    return arguments


def train(arguments):
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    if not arguments.eager and shutil.which("c++"):
        model.fuse()
    Run(arguments).loop()


def main():
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    processes.run(arguments.processes, arguments.out, train, arguments)


if __name__ == "__main__":
    main()
