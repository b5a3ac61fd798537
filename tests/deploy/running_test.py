"""Starts a cluster on this machine from the arguments and environment of the manifests' containers:
it joins, answers, drains and ends as Kubernetes would have it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request

import manifests
import pytest
import yaml
from cluster import MPI_ENVIRONMENT, free_port, wait_until
from manifests import BINARY, ROOT


def of_overlay(folder):
    return manifests.kustomize(manifests.copy_with_secrets(folder) / "overlays" / "cpu")


def of_chart(folder):
    manifests.copy_with_secrets(folder)
    return manifests.helm()


def of_variant(name):
    def render(folder):
        copy = manifests.copy_with_secrets(folder)
        return list(yaml.safe_load_all((copy / "variants" / f"{name}.yaml").read_text()))

    return render


def container(documents, component):
    """The container of the pods with this label, or of the Job's launcher."""
    for document in documents:
        for what, template in manifests.pod_templates(document):
            labels = template.get("metadata", {}).get("labels", {})
            if labels.get("app.kubernetes.io/component") == component or component in what:
                return template["spec"]["containers"][0]
    raise LookupError(component)


class Pods:
    """What would be pods, as processes; ends all of them."""

    def __init__(self, folder, documents):
        self.folder, self.documents = folder, documents
        self.join_port = free_port()
        self.processes = {}
        self.ports = {}
        settings = [o["data"]["pregate.toml"] for o in documents if o["kind"] == "ConfigMap"]
        for text in settings:
            (folder / "pregate.toml").write_text(self.mapped(text, "", 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def mapped(self, text, pod, port):
        """What Kubernetes or the network would put in place of a manifest's words."""
        secrets = self.folder / "kubernetes" / "base" / "secrets"
        for theirs, ours in (
            ("$(POD_IP)", "127.0.0.1"),
            ("$(POD_NAME)", pod),
            ("$(LWS_LEADER_ADDRESS)", "127.0.0.1"),
            ("pregate-coordinator:", "127.0.0.1:"),
            ("0.0.0.0", "127.0.0.1"),
            ("/etc/pregate/", f"{self.folder}/"),
            ("/secrets/", f"{secrets}/"),
            ("/models/", f"{ROOT}/models/"),
            (":7000", f":{self.join_port}"),
            ("port=8000", f"port={port}"),
            ("port=9100", f"port={free_port()}"),
        ):
            text = text.replace(theirs, ours)
        return text

    def environment_of(self, spec, pod):
        environment = os.environ | {"PREGATE_THREADS": "1"}
        for variable in spec.get("env", []):
            if "value" in variable:
                environment[variable["name"]] = self.mapped(variable["value"], pod, 0)
        return environment

    def start(self, component, pod, command=(BINARY,)):
        spec = container(self.documents, component)
        self.ports[pod] = free_port()
        arguments = [self.mapped(word, pod, self.ports[pod]) for word in spec["args"]]
        self.processes[pod] = subprocess.Popen(
            [*command, *arguments],
            env=self.environment_of(spec, pod),
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def get(self, pod, path):
        return self.send(urllib.request.Request(f"http://127.0.0.1:{self.ports[pod]}{path}"))

    def complete(self, pod, key=None):
        body = {"model": "pregate-tiny", "prompt": "And the", "max_tokens": 4}
        url = f"http://127.0.0.1:{self.ports[pod]}/v1/completions"
        request = urllib.request.Request(url, json.dumps(body).encode())
        request.add_header("Content-Type", "application/json")
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        return self.send(request)

    def send(self, request):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def probe(self, component, pod, name):
        return self.get(pod, container(self.documents, component)[name]["httpGet"]["path"])

    def terminate(self, pod):
        self.processes[pod].send_signal(signal.SIGTERM)
        return self.processes.pop(pod).wait(timeout=60)

    def api_key(self):
        return (self.folder / "kubernetes" / "base" / "secrets" / "api.keys").read_text()

    def admin(self, *words):
        spec = container(self.documents, "coordinator")
        url = f"http://127.0.0.1:{self.ports['coordinator']}"
        run = subprocess.run(
            [BINARY, "admin", *words, "--url", url],
            env=self.environment_of(spec, "coordinator"),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert run.returncode == 0, run.stderr
        return run.stdout


@pytest.mark.parametrize(
    "render",
    [of_overlay, of_chart, of_variant("leaderworkerset")],
    ids=["overlay", "chart", "leaderworkerset"],
)
def test_pods_are_a_cluster(render, tmp_path):
    with Pods(tmp_path, render(tmp_path)) as pods:
        pods.start("coordinator", "coordinator")
        wait_until(lambda: pods.probe("coordinator", "coordinator", "startupProbe") == 200)
        # It waits for workers: alive, and not to be sent requests.
        assert pods.probe("coordinator", "coordinator", "livenessProbe") == 200
        assert pods.probe("coordinator", "coordinator", "readinessProbe") == 503

        workers = ["pregate-worker-0", "pregate-worker-1"]
        for worker in workers:
            pods.start("worker", worker)
        wait_until(lambda: pods.probe("coordinator", "coordinator", "readinessProbe") == 200, 60)
        for worker in workers:
            wait_until(lambda: pods.probe("worker", worker, "readinessProbe") == 200)
            assert pods.probe("worker", worker, "livenessProbe") == 200
            assert pods.get(worker, "/metrics") == 200
        assert pods.complete("coordinator") == 401
        assert pods.complete("coordinator", pods.api_key()) == 200
        listed = pods.admin("workers")
        assert all(worker in listed for worker in workers)

        assert pods.terminate("pregate-worker-1") == 0
        assert pods.probe("coordinator", "coordinator", "readinessProbe") == 200
        assert pods.complete("coordinator", pods.api_key()) == 200
        # As a StatefulSet does.
        pods.start("worker", "pregate-worker-1")
        wait_until(lambda: pods.probe("worker", "pregate-worker-1", "readinessProbe") == 200, 60)

        assert pods.terminate("coordinator") == 0


@pytest.mark.skipif(not shutil.which("mpirun"), reason="no mpirun")
def test_ranks_of_an_mpijob_are_a_cluster(tmp_path, monkeypatch):
    for name, value in MPI_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    # As `pregate` is in the image.
    monkeypatch.setenv("PATH", f"{os.path.dirname(BINARY)}:{os.environ['PATH']}")
    documents = of_variant("mpijob")(tmp_path)
    with Pods(tmp_path, documents) as pods:
        pods.start("Launcher", "launcher", command=["mpirun"])
        wait_until(lambda: pods.get("launcher", "/health/ready") == 200, 60)
        assert pods.complete("launcher", pods.api_key()) == 200
