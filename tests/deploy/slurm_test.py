"""deploy/slurm/pregate.sbatch on a real Slurm: two nodes, which are daemons on this machine.

Needs root and Debian's Slurm and munge; the daemons live in a temporary folder and end with the
test."""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from cluster import BINARY, free_port, make_model, wait_until

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy/slurm/pregate.sbatch"
TOOLS = ["munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue", "curl"]
NODES = ["n1", "n2"]
START_SECONDS = 120

# Without cgroups, accounting and a database. Two nodes on one machine: each has a port of its own,
# and more cores than there are, so that their tasks find room.
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]},{ports[2]} CPUs=4
PartitionName=all Nodes={nodes} Default=YES MaxTime=INFINITE State=UP
"""


def why_not():
    """What is missing here; empty if nothing is."""
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


reason = why_not()
if reason and os.environ.get("CI") == "true":
    raise RuntimeError(f"cannot test Slurm: {reason}")
pytestmark = pytest.mark.skipif(bool(reason), reason=reason)


class Slurm:
    """A context manager."""

    def __init__(self, folder):
        self.folder = folder
        self.submit_folder = folder / "submit"
        self.conf = folder / "slurm.conf"
        self.environment = os.environ | {
            "SLURM_CONF": str(self.conf),
            "PREGATE_ROOT": str(ROOT),
            "PREGATE_BINARY": str(BINARY),
            "PREGATE_THREADS": "1",
        }
        self.daemons = []

    def __enter__(self):
        self.write_files()
        try:
            self.start_daemon("munged", "--foreground", *self.munge_files())
            wait_until((self.folder / "munge/socket").exists)
            self.start_daemon("slurmctld", "-D", "-f", self.conf)
            for node in NODES:
                self.start_daemon("slurmd", "-D", "-N", node, "-f", self.conf)
            wait_until(lambda: self.ask("sinfo", "-h", "-t", "idle", "-o", "%D") == "2", 60)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def write_files(self):
        munge = self.folder / "munge"
        for folder in [munge, self.folder / "state", self.submit_folder]:
            folder.mkdir()
        munge.chmod(0o700)
        for node in NODES:
            (self.folder / f"spool.{node}").mkdir()
        key = munge / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        facts = {"host": socket.gethostname().split(".")[0], "folder": self.folder}
        ports = [free_port() for _ in range(3)]
        self.conf.write_text(CONF.format(ports=ports, nodes=",".join(NODES), **facts))

    def munge_files(self):
        # Only /tmp's own folders may be written to by all, so it insists on less.
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid"}
        files |= {"log-file": "log", "seed-file": "seed"}
        named = [f"--{flag}={self.folder}/munge/{name}" for flag, name in files.items()]
        return ["--force", *named]

    def start_daemon(self, *command):
        with open(self.folder / f"{command[0]}.log", "ab") as out:
            self.daemons.append(
                subprocess.Popen(list(map(str, command)), stdout=out, stderr=out)
            )

    def stop(self):
        with contextlib.suppress(Exception):
            if self.daemons:
                self.ask("scancel", "--user=root")
                wait_until(lambda: not self.jobs(), 60)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(timeout=30)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def ask(self, *command):
        ended = subprocess.run(
            list(map(str, command)),
            env=self.environment,
            cwd=self.submit_folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return ended.stdout.strip()

    def jobs(self):
        return self.ask("squeue", "-h", "-o", "%i").split()

    def submit(self, *arguments, flags=()):
        job = self.ask("sbatch", "--parsable", *flags, SCRIPT, *arguments)
        assert job.isdigit(), (self.folder / "slurmctld.log").read_text()[-2000:]
        return job

    def log(self, job):
        file = self.submit_folder / f"pregate-{job}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def wait_end(self, job):
        wait_until(lambda: job not in self.jobs(), START_SECONDS)

    def wait_ready(self, job):
        def is_ready():
            assert job in self.jobs(), self.log(job)
            return "pregate.sbatch: ready:" in self.log(job)

        wait_until(is_ready, START_SECONDS)
        return re.search(r"ready: (http://\S+),", self.log(job))[1]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with Slurm(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("checkpoint") / "model")


def complete(url, key, num_tokens):
    body = {"prompt": "once", "max_tokens": num_tokens, "temperature": 0, "ignore_eos": True}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(
        url + "/v1/completions", json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["usage"]["completion_tokens"]


def test_a_job_serves_and_lets_requests_end_before_its_limit(slurm, model):
    job = slurm.submit(model, "--kv-cache-bytes", "64M", flags=["--cpus-per-task=2"])
    url = slurm.wait_ready(job)
    run = slurm.submit_folder / f"pregate-{job}"
    key = (run / "api.keys").read_text().strip()
    assert complete(url, key, 3) == 3
    with urllib.request.urlopen(url + "/metrics", timeout=60) as page:
        workers = set(re.findall(r'pregate_worker_up\{worker="([^"]+)"\} 1', page.read().decode()))
    assert workers == {"n1-0", "n2-0"}

    answers = []
    client = threading.Thread(target=lambda: answers.append(complete(url, key, 200)))
    client.start()
    time.sleep(0.3)
    # What Slurm sends by itself before the time limit.
    slurm.ask("scancel", "--batch", "--signal=TERM", job)
    client.join(timeout=120)
    slurm.wait_end(job)
    assert answers == [200], slurm.log(job)
    assert "the coordinator ended with status 0" in slurm.log(job)
    assert not run.exists(), "the secrets are still there"


def test_a_node_without_the_model_is_named(slurm):
    job = slurm.submit("no/such/model")
    slurm.wait_end(job)
    log = slurm.log(job)
    assert re.search(r"^0: +FAILED +model .*no/such/model", log, re.MULTILINE), log
    assert re.search(r"^1: +FAILED +model .*no/such/model", log, re.MULTILINE), log
    assert "not started" in log
    assert "coordinator]" not in log


def test_arguments_that_make_no_sense_are_refused():
    for arguments, said in [([], "model's folder first"), (["m"], "no Slurm job")]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
        ended = subprocess.run(
            [SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=60
        )
        assert ended.returncode == 2
        assert said in ended.stderr
