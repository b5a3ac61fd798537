"""deploy/mpi/launch.sh over hosts that are network namespaces, each with a name of its own."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path

import network
import pytest
from cluster import BINARY, free_port, settled, wait_until

LAUNCH = Path(__file__).resolve().parents[2] / "deploy/mpi/launch.sh"
DEVICE = "eth0"
READY_SECONDS = 120
STOP_SECONDS = 90

reason = network.why_not() or ("" if shutil.which("mpirun") else "not installed: mpirun")
needs_network = pytest.mark.skipif(bool(reason), reason=reason)

# How mpirun reaches a host, in place of ssh. A host whose number is in $HIDDEN_FROM has another
# file system where the model is.
AGENT = """#!/bin/bash
address="$1" && shift
case "$address" in
{cases}
  *) echo "no host $address" >&2 && exit 1 ;;
esac
hide=true
if [[ "$address" == "${{HIDDEN_FROM:-}}" ]]; then hide="mount -t tmpfs none {model}"; fi
exec ip netns exec "$name" unshare --uts --mount sh -c "hostname $name && $hide && exec $*"
"""


@pytest.fixture
def hosts():
    with network.Network(workers=2) as made, made.at_the_coordinator():
        yield made


class Launch:
    """launch.sh on the first of some hosts; a context manager."""

    def __init__(self, hosts, model, folder, flags=(), environment=()):
        self.hosts, self.folder = hosts.hosts, folder
        self.port = free_port()
        hostfile = folder / "hostfile"
        hostfile.write_text("".join(f"{host.address}\n" for host in self.hosts))
        self.output = folder / "output"
        command = [LAUNCH, "--hostfile", hostfile, "--model", model, "--iface", DEVICE]
        command += ["--binary", BINARY, "--rsh", self.write_agent(model), "--"]
        command += ["--host", "0.0.0.0", "--port", self.port, "--threads", "1", *flags]
        name = self.hosts[0].namespace
        named = ["unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "sh"]
        self.command = list(map(str, [*self.hosts[0].prefix, *named, *command]))
        self.environment = os.environ | dict(environment)

    def write_agent(self, model):
        cases = "\n".join(
            f"  {host.address}) name={host.namespace} ;;" for host in self.hosts
        )
        agent = self.folder / "rsh"
        agent.write_text(AGENT.format(cases=cases, model=model))
        agent.chmod(0o755)
        return agent

    def __enter__(self):
        with open(self.output, "wb") as out:
            self.process = subprocess.Popen(
                self.command, stdout=out, stderr=out, env=self.environment, start_new_session=True
            )
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def said(self):
        return self.output.read_text(errors="replace")

    def wait_ready(self):
        def is_ready():
            assert self.process.poll() is None, self.said()
            with contextlib.suppress(OSError):
                return self.get("/health/ready").status == 200
            return False

        wait_until(is_ready, READY_SECONDS)

    def get(self, path, body=None):
        url = f"http://{self.hosts[0].address}:{self.port}{path}"
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        return urllib.request.urlopen(request, timeout=60)

    def names(self):
        return [host.namespace for host in self.hosts]


def processes_on(hosts):
    """Of the hosts other than the one this process is on."""
    return [
        pid
        for host in hosts.hosts[1:]
        for pid in network.run("ip", "netns", "pids", host.namespace).split()
    ]


@needs_network
def test_all_hosts_are_checked_serve_and_stop(hosts, model, tmp_path):
    with Launch(hosts, model, tmp_path) as launch:
        launch.wait_ready()
        said = launch.said()
        for rank, name in enumerate([launch.names()[0], *launch.names()]):
            assert re.search(rf"^{name} +{rank} .* (ok|warning)$", said, re.MULTILINE), said
        answer = launch.get("/v1/completions", {"prompt": "once", "max_tokens": 4})
        assert json.load(answer)["usage"]["completion_tokens"] == 4

        def num_up():
            metrics = launch.get("/metrics").read().decode()
            return len(re.findall(r"pregate_worker_up\{[^}]*\} 1", metrics))

        assert settled(num_up, 3) == 3
        launch.process.send_signal(signal.SIGTERM)
        assert launch.process.wait(timeout=STOP_SECONDS) == 0, launch.said()
        wait_until(lambda: not processes_on(hosts))


@needs_network
def test_a_host_without_the_model_is_named_and_nothing_starts(hosts, model, tmp_path):
    lost = hosts.hosts[2]
    with Launch(hosts, model, tmp_path, environment={"HIDDEN_FROM": lost.address}) as launch:
        assert launch.process.wait(timeout=READY_SECONDS) == 1
        said = launch.said()
        assert re.search(rf"^{lost.namespace} +3 .* FAILED$", said, re.MULTILINE), said
        assert re.search(rf"^{lost.namespace}, rank 3:\n(.*\n)*? +FAILED +model ", said, re.M), said
        assert said.count("FAILED   model") == 1, said
        assert "not started" in said
        assert "coordinator]" not in said


@needs_network
def test_a_port_that_is_taken_is_named_and_nothing_starts(hosts, model, tmp_path):
    launch = Launch(hosts, model, tmp_path)
    listen = "import socket, sys; s = socket.create_server(('', int(sys.argv[1])))"
    listen += "; print('listens', flush=True); input()"
    command = [*hosts.hosts[0].prefix, "python3", "-c", listen, str(launch.port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"listens\n"
        with launch:
            assert launch.process.wait(timeout=READY_SECONDS) == 1
        other.stdin.close()
    said = launch.said()
    assert re.search(rf"FAILED +--port .*{launch.port}.*in use", said), said
    assert "not started" in said


@pytest.mark.parametrize(
    "hostfile, flags, said",
    [
        (None, [], "--hostfile is needed"),
        ("a", ["--workers", "none"], "--workers none: expected a number"),
        ("a", ["--wrong"], "--wrong: unknown"),
        ("a", ["--iface"], "--iface: expected a value"),
        ("a\na slots=2", [], ":2: a is there twice"),
        ("a cpus=3", [], ":1: cpus=3: expected HOST or HOST slots=N"),
        ("a slots=0", [], "slots=0: expected a number from 1"),
        ("# nobody", [], "no hosts in it"),
        ("a", ["--binary", "no-such-program"], "no-such-program: no program there"),
    ],
)
def test_what_cannot_be_launched_is_refused(tmp_path, hostfile, flags, said):
    command = [LAUNCH, "--model", "m", "--binary", BINARY]
    if hostfile:
        (tmp_path / "hosts").write_text(hostfile + "\n")
        command += ["--hostfile", tmp_path / "hosts"]
    ended = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2, ended.stderr
    assert said in ended.stderr
