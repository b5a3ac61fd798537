"""A coordinator and workers over UCX as separate processes, and clients that notice every stall."""

import contextlib
import json
import os
import random
import secrets
import signal
import statistics
import subprocess
import threading
import time
import urllib.request

from cluster import BINARY, Cluster, free_port, wait_until

CHUNK_SECONDS = 90
NUM_STREAMS = 16
NUM_TOKENS = 48
# The same bits whatever worker computes what.
EXACT = ["--reproducible", "--weights", "q8"]
FORMAT = ["--weights", "q8"]


class Host:
    """Where a process runs: here, or in a network namespace."""

    def __init__(self, address="127.0.0.1", namespace=None):
        self.address = address
        self.namespace = namespace
        self.prefix = ["ip", "netns", "exec", namespace] if namespace else []


class ElasticCluster(Cluster):
    """Use as a context manager. Workers are numbered from 1."""

    def __init__(self, model, directory, workers=3, options=(), worker_options=(), hosts=None):
        self.model = str(model)
        self.num_workers = workers
        self.hosts = hosts or [Host()] * (workers + 1)
        self.port = free_port()
        self.url = f"http://{self.hosts[0].address}:{self.port}"
        self.listen = f"{self.hosts[0].address}:{free_port()}"
        self.secret = directory / "secret"
        self.secret.write_text(secrets.token_hex(16))
        self.secret.chmod(0o600)
        self.options = list(options)
        self.worker_options = list(worker_options)
        self.directory = directory
        self.admin_key = secrets.token_hex(16)
        (directory / "admin.keys").write_text(self.admin_key + "\n")
        self.process = None
        self.workers = {}

    def spawn(self, host, arguments, log):
        command = [*host.prefix, str(BINARY), *map(str, arguments)]
        with open(self.directory / log, "ab") as out:
            return subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)

    def start_coordinator(self):
        arguments = ["coordinator", "--model", self.model, "--port", self.port]
        arguments += ["--host", self.hosts[0].address, "--listen", self.listen, "--threads", "1"]
        arguments += ["--secret-file", self.secret, "--min-workers", self.num_workers]
        arguments += ["--admin-key-file", self.directory / "admin.keys"]
        self.process = self.spawn(self.hosts[0], arguments + self.options, "coordinator.log")

    def start_worker(self, number):
        arguments = ["worker", "--model", self.model, "--join", self.listen, "--threads", "1"]
        arguments += ["--name", f"worker-{number}", "--secret-file", self.secret]
        host = self.hosts[min(number, len(self.hosts) - 1)]
        process = self.spawn(host, arguments + self.worker_options, f"worker-{number}.log")
        self.workers[number] = process

    def start(self):
        self.start_coordinator()
        for number in range(1, self.num_workers + 1):
            self.start_worker(number)

    def kill(self):
        for process in [self.process, *self.workers.values()]:
            if process is None or process.poll() is not None:
                continue
            os.killpg(process.pid, signal.SIGCONT)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def kill_worker(self, number):
        os.killpg(self.workers[number].pid, signal.SIGKILL)
        self.workers[number].wait()

    def signal_worker(self, number, what):
        os.killpg(self.workers[number].pid, what)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)

    def states(self):
        """By name, from the metrics."""
        found = {}
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith("pregate_worker_up{"):
                name = line.split('worker="')[1].split('"')[0]
                found[name] = float(line.rsplit(" ", 1)[1]) > 0
        return found

    def wait_up(self, number, up=True, seconds=30):
        wait_until(lambda: self.states().get(f"worker-{number}") == up, seconds)

    def metric(self, name, **labels):
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            matches = all(f'{key}="{value}"' in line for key, value in labels.items())
            if line.split("{")[0].split(" ")[0] == name and matches:
                total += float(line.rsplit(" ", 1)[1])
        return total

    def log(self, name):
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def admin(self, what, method="GET", body=None):
        headers = {"Authorization": f"Bearer {self.admin_key}"}
        status, answer = self.send(method, f"/admin/v1/{what}", body, headers=headers)
        assert status == 200, answer
        return answer


class Stream(threading.Thread):
    """Asks for completions one after another, and notes tokens and the longest silences."""

    def __init__(self, url, prompts, max_tokens, enough):
        super().__init__(daemon=True)
        self.url, self.prompts, self.max_tokens, self.enough = url, prompts, max_tokens, enough
        self.answers, self.error = [], None
        self.gaps = []

    def run(self):
        try:
            while len(self.answers) < len(self.prompts) or not self.enough.is_set():
                prompt = self.prompts[len(self.answers) % len(self.prompts)]
                self.answers.append(self.complete(prompt))
        except Exception as error:  # noqa: BLE001 (the test reports it)
            self.error = error

    def complete(self, prompt):
        body = {
            "prompt": prompt,
            "max_tokens": self.max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "return_token_ids": True,
        }
        request = urllib.request.Request(
            self.url + "/v1/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        tokens, last = [], time.monotonic()
        with urllib.request.urlopen(request, timeout=CHUNK_SECONDS) as stream:
            for line in stream:
                if not line.startswith(b"data: ") or line.startswith(b"data: [DONE]"):
                    continue
                now = time.monotonic()
                self.gaps.append((now, now - last))
                last = now
                chunk = json.loads(line[6:])
                assert "error" not in chunk, chunk
                tokens += chunk["choices"][0].get("token_ids") or []
        assert len(tokens) == self.max_tokens, f"{len(tokens)} tokens"
        return tokens

    def stall_after(self, moment, seconds=8):
        """The longest silence that ended within some seconds after `moment`."""
        return max((gap for at, gap in self.gaps if moment <= at <= moment + seconds), default=0.0)


class Load:
    """Concurrent streams, each of which asks its prompts in turn until the end of the `with`."""

    def __init__(self, url, prompts_of_streams, max_tokens):
        self.enough = threading.Event()
        self.streams = [
            Stream(url, prompts, max_tokens, self.enough) for prompts in prompts_of_streams
        ]

    def __enter__(self):
        for stream in self.streams:
            stream.start()
        return self

    def __exit__(self, *_):
        self.enough.set()
        for stream in self.streams:
            stream.join(timeout=300)

    def answers(self):
        failed = [str(stream.error) for stream in self.streams if stream.error]
        assert not failed, failed
        assert not any(stream.is_alive() for stream in self.streams), "a stream did not end"
        return [stream.answers for stream in self.streams]

    def check(self, expected):
        """No request failed, and every answer is that of the undisturbed run."""
        for stream, (answers, known) in enumerate(zip(self.answers(), expected)):
            for number, tokens in enumerate(answers):
                assert tokens == known[number % len(known)], f"stream {stream}, request {number}"

    def stalls(self, moment):
        found = sorted(stream.stall_after(moment) for stream in self.streams)
        return statistics.median(found), found[-1]


def prompts(requests_per_stream, seed=3, longest=40):
    source = random.Random(seed)
    return [
        [
            [source.randrange(250) for _ in range(source.randint(1, longest))]
            for _ in range(requests_per_stream)
        ]
        for _ in range(NUM_STREAMS)
    ]


def undisturbed(model, directory, asked):
    (directory / "calm").mkdir()
    with ElasticCluster(
        model, directory / "calm", workers=1, options=EXACT, worker_options=FORMAT
    ) as cluster:
        with Load(cluster.url, asked, NUM_TOKENS) as load:
            pass
        return [answers[: len(asked[0])] for answers in load.answers()]


def cluster_of(model, directory, replicas, workers=3, **options):
    more = ["--replicas", str(replicas), *options.pop("more", [])]
    return ElasticCluster(
        model, directory, workers, options=[*EXACT, *more], worker_options=FORMAT, **options
    )


@contextlib.contextmanager
def unnoticed(cluster, asked, expected):
    """16 streams, which must not notice what happens in the block."""
    with Load(cluster.url, asked, NUM_TOKENS) as load:
        yield load
    load.check(expected)
    assert cluster.metric("pregate_requests_lost_total") == 0


def report(what, load, moments):
    """Printed by pytest -rP, and kept when a test fails."""
    for name, moment in moments:
        median, largest = load.stalls(moment)
        times = f"median {median * 1000:.0f} ms, largest {largest * 1000:.0f} ms"
        print(f"{what}: {name}: stall {times}")
