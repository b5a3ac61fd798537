#!/usr/bin/env python3
"""Tokens per second of a cluster whose workers die and come back, against an undisturbed one.

A coordinator and four workers with two replicas of every expert serve a steady load. Windows
alternate: in the undisturbed ones nothing happens; in the others one worker at a time is killed,
stays dead for --dead-seconds, is started again, and the next one follows every --every-seconds. The
share of the workers' time that is lost this way (from the kill until the worker is ready again)
is the dead share: so much a cluster with a core per worker must lose. Where workers share cores a
dead one leaves its time to the others, which hides what deaths cost: the loss may be negative.

    PREGATE_BINARY=build/release/pregate bench/elastic/throughput.py --windows 6 --seconds 25
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "integration"))

from cluster import make_model  # noqa: E402
from elastic import ElasticCluster, Load, prompts, wait_until  # noqa: E402

WORKERS = 4
SHAPE = "--layers 4 --hidden-size 256 --heads 4 --kv-heads 4 --experts 16 --expert-size 512".split()


class Bench:
    def __init__(self, cluster, options):
        self.cluster, self.options = cluster, options
        self.victim = 0
        self.dead_seconds = 0.0

    def tokens(self):
        return self.cluster.metric("vllm:generation_tokens_total")

    def undisturbed(self, end):
        time.sleep(max(0.0, end - time.monotonic()))

    def disturbed(self, end):
        while end - time.monotonic() > self.options.every_seconds * 0.8:
            began = time.monotonic()
            self.kill_and_return()
            self.undisturbed(min(end, began + self.options.every_seconds))
        self.undisturbed(end)

    def kill_and_return(self):
        self.victim = self.victim % WORKERS + 1
        began = time.monotonic()
        self.cluster.kill_worker(self.victim)
        time.sleep(self.options.dead_seconds)
        self.cluster.start_worker(self.victim)
        wait_until(self.is_whole)
        self.dead_seconds += time.monotonic() - began

    def is_whole(self):
        is_back = self.cluster.states().get(f"worker-{self.victim}")
        return is_back and self.cluster.metric("pregate_workers", state="ready") == WORKERS

    def rate(self, window):
        tokens, began = self.tokens(), time.monotonic()
        window(began + self.options.seconds)
        return (self.tokens() - tokens) / (time.monotonic() - began)


def measure(bench, load, options):
    calm, deaths = [], []
    for number in range(options.windows):
        calm.append(bench.rate(bench.undisturbed))
        deaths.append(bench.rate(bench.disturbed))
        print(
            f"{number + 1}/{options.windows}: undisturbed {calm[-1]:.0f} tokens/s,"
            f" with deaths {deaths[-1]:.0f}; load average {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        failed = [str(stream.error) for stream in load.streams if stream.error]
        assert not failed, failed
    return calm, deaths


def summarise(calm, deaths, bench, options):
    undisturbed, disturbed = statistics.median(calm), statistics.median(deaths)
    dead_share = bench.dead_seconds / (WORKERS * options.windows * options.seconds)
    print(f"undisturbed: median {undisturbed:.0f} tokens/s ({min(calm):.0f} to {max(calm):.0f})")
    print(f"with deaths: median {disturbed:.0f} tokens/s ({min(deaths):.0f} to {max(deaths):.0f})")
    print(f"loss {100 * (1 - disturbed / undisturbed):.1f} %, dead share {100 * dead_share:.1f} %")
    ratios = sorted(100 * (1 - late / early) for early, late in zip(calm, deaths))
    print(f"loss of each pair of windows: {', '.join(f'{ratio:.1f}' for ratio in ratios)} %")


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="checkpoint; default: a small random one")
    parser.add_argument("--windows", type=int, default=6, help="of each kind")
    parser.add_argument("--seconds", type=float, default=25, help="of a window")
    parser.add_argument("--every-seconds", type=float, default=6, help="between deaths")
    parser.add_argument("--dead-seconds", type=float, default=2, help="until it is started again")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    return parser.parse_args()


def main():
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        model = options.model or make_model(directory / "model", *SHAPE)
        weights = ["--weights", "q8"]
        with ElasticCluster(
            model, directory, WORKERS, ["--replicas", "2", *weights], weights
        ) as cluster, Load(cluster.url, prompts(4), options.tokens) as load:
            time.sleep(3)
            bench = Bench(cluster, options)
            summarise(*measure(bench, load, options), bench, options)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(str(error))
