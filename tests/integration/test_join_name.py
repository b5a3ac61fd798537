"""A worker that starts before anybody knows the name of its coordinator."""

import os
import shutil
import signal
import subprocess

import pytest
from cluster import BINARY, wait_until
from elastic import ElasticCluster

NAME = "coordinator.invalid"
WAITS = "trying until somebody knows it"


class NamedCluster(ElasticCluster):
    """The one worker asks for a name, which this process can make known to it."""

    def start(self):
        self.start_coordinator()
        self.names = self.directory / "hosts"
        self.names.write_text("127.0.0.1 localhost\n")
        address, port = self.listen.rsplit(":", 1)
        self.address = address
        arguments = ["worker", "--model", self.model, "--join", f"{NAME}:{port}"]
        arguments += ["--threads", "1", "--name", "worker-1", "--secret-file", self.secret]
        # Its own /etc/hosts; nothing is changed for anybody else.
        script = 'mount --bind "$0" /etc/hosts && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", script, self.names, BINARY, *arguments]
        with open(self.directory / "worker-1.log", "ab") as out:
            self.workers[1] = subprocess.Popen(
                [str(part) for part in command], stdout=out, stderr=out, start_new_session=True
            )

    def make_known(self):
        with open(self.names, "a") as names:
            names.write(f"{self.address} {NAME}\n")


def may_mount():
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="a mount namespace needs root and unshare")
def test_it_joins_once_the_name_is_known(model, tmp_path):
    cluster = NamedCluster(model, tmp_path, workers=1)
    try:
        cluster.start()
        wait_until(lambda: WAITS in cluster.log("worker-1"), 60)
        cluster.make_known()
        cluster.wait_ready()
        status, answer = cluster.post("/v1/completions", {"prompt": "a", "max_tokens": 2})
        assert status == 200, answer
        assert cluster.log("worker-1").count(WAITS) == 1
        assert cluster.stop() == 0
    finally:
        cluster.kill()


def test_sigterm_ends_the_wait(model, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("0123456789abcdef")
    secret.chmod(0o600)
    command = [BINARY, "worker", "--model", model, "--join", f"{NAME}:7000"]
    command += ["--secret-file", secret]
    log = tmp_path / "log"
    with open(log, "wb") as out:
        worker = subprocess.Popen(list(map(str, command)), stderr=out)
    try:
        wait_until(lambda: WAITS in log.read_text(), 60)
        assert f"{NAME}:7000" in log.read_text()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=30) == 0
    finally:
        worker.kill()
