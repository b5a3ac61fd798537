"""Starts real pregate processes for tests, and stops them whatever happens."""

import json
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

BINARY = Path(os.environ["PREGATE_BINARY"])
READY_SECONDS = 120
STOP_SECONDS = 30

# Root in a container, and no traffic on any network but the loopback.
MPI_ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_oob_tcp_if_include": "lo",
    "OMPI_MCA_btl_tcp_if_include": "lo",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
}


given_ports = set()


def free_port():
    """Below those that the system gives to whoever asks for any, before the caller takes it. Never
    one again: a caller may ask for several before it takes the first."""
    while True:
        port = random.randrange(20000, 32768)
        if port in given_ports:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                given_ports.add(port)
                return port
            except OSError:
                pass


def make_model(directory, *options, seed=7):
    """A small random checkpoint; options as for `pregate make-model`."""
    command = [BINARY, "make-model", "--out", directory, "--like", "tiny", "--seed", str(seed)]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL, timeout=120)
    return directory


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.02)


def settled(read, wanted, seconds=30):
    """What `read` gives once that is `wanted`, or at last: for an assertion that shows it."""
    deadline = time.monotonic() + seconds
    while (found := read()) != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


class Cluster:
    """`pregate serve` alone (ranks=1) or under mpirun; use as a context manager."""

    def __init__(self, model, ranks=1, options=(), mpi_options=()):
        self.ranks = ranks
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        serve = [BINARY, "serve", "--model", model, "--host", "127.0.0.1"]
        serve += ["--port", str(self.port), "--threads", "1", *options]
        launcher = ["mpirun", "--bind-to", "none", *mpi_options, "-n", str(ranks)]
        self.command = [str(part) for part in (launcher if ranks > 1 else []) + serve]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            self.command,
            env=os.environ | MPI_ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self):
        try:
            self.start()
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_):
        self.kill()

    def wait_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self.process.poll() is None, f"ended with {self.process.returncode}"
            try:
                if self.get("/health/ready")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise TimeoutError(f"not ready after {READY_SECONDS} s: {' '.join(self.command)}")

    def stop(self):
        """Asks the service to end, as an operator would; returns the exit status.

        mpirun passes SIGUSR1 on; to SIGTERM it answers by killing the ranks.
        """
        self.process.send_signal(signal.SIGUSR1 if self.ranks > 1 else signal.SIGTERM)
        return self.process.wait(timeout=STOP_SECONDS)

    def kill(self):
        if self.process is None:
            return
        for pid in [self.process.pid, *self.pids()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()

    def pids(self):
        """The pregate processes, coordinator first (mpirun starts ranks in order)."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if command[0] == str(BINARY).encode() and str(self.port).encode() in command:
                found.append(int(entry.name))
        return sorted(found)

    def get(self, path, timeout=10):
        return self._exchange(urllib.request.Request(self.url + path), timeout)

    def post(self, path, body, timeout=60):
        return self.send("POST", path, body, timeout)

    def send(self, method, path, body=None, timeout=60, headers=()):
        """For answers in JSON."""
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **dict(headers)},
            method=method,
        )
        status, text = self._exchange(request, timeout)
        return status, json.loads(text)

    @staticmethod
    def _exchange(request, timeout):
        try:
            with urllib.request.urlopen(request, timeout=timeout) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
