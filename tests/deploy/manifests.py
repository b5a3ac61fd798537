"""Renders what deploy/kubernetes ships, with the real tools, and finds the pods in it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import helm_python
import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
CHART = KUBERNETES / "helm" / "pregate"
BINARY = os.environ["PREGATE_BINARY"]

OVERLAYS = ("cpu", "gpu", "mixed")
EXTRAS = ("monitoring", "autoscaling", "model-loader")
VARIANTS = ("leaderworkerset", "mpijob")
SECRETS = {"clusterSecret": "c" * 64, "apiKeys": "a" * 64, "adminKeys": "d" * 64}


def tool(name):
    """A program that came with tests/requirements.txt."""
    return Path(sys.executable).parent / name


def copy_with_secrets(folder):
    """deploy/kubernetes as someone has it who followed docs/deploy.md, below `folder`."""
    ignore = shutil.ignore_patterns("secrets")
    copy = Path(shutil.copytree(KUBERNETES, folder / "kubernetes", ignore=ignore))
    command = [ROOT / "deploy" / "make-secrets.sh", copy / "base" / "secrets"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return copy


def kustomize(folder):
    run = subprocess.run([tool("kubectl"), "kustomize", folder], capture_output=True, text=True)
    if run.returncode != 0:
        raise ValueError(run.stderr)
    return list(yaml.safe_load_all(run.stdout))


def merged(base, changes):
    both = dict(base)
    for key, value in changes.items():
        deeper = isinstance(value, dict) and isinstance(both.get(key), dict)
        both[key] = merged(both[key], value) if deeper else value
    return both


def helm(values=None, chart=CHART, name="pregate"):
    """The chart's objects; raises helm_python.HelmError as `helm install` would refuse."""
    values = merged({"secrets": SECRETS}, values or {})
    with helm_python.Chart.load(chart) as loaded:
        loaded.validate_schema(values)
        files = loaded.render(values, name=name, namespace="pregate")
    texts = [text for file, text in sorted(files.items()) if file.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def helm_values(file):
    return yaml.safe_load((CHART / file).read_text())


def everything(folder):
    """All objects by where they are from; `folder` gets copies."""
    copy = copy_with_secrets(folder)
    objects = {f"overlays/{name}": kustomize(copy / "overlays" / name) for name in OVERLAYS}
    objects |= {f"extras/{name}": kustomize(copy / "extras" / name) for name in EXTRAS}
    for name in VARIANTS:
        text = (copy / "variants" / f"{name}.yaml").read_text()
        objects[f"variants/{name}"] = list(yaml.safe_load_all(text))
    optional = {"serviceMonitor": {"enabled": True}, "autoscaling": {"enabled": True}}
    objects["helm"] = helm()
    objects["helm with all"] = helm(merged(helm_values("values-mixed.yaml"), optional))
    return objects


def pod_templates(document):
    """(what it is, pod template) of each kind of pod that an object makes."""
    kind, spec = document["kind"], document.get("spec", {})
    if kind in ("Deployment", "StatefulSet"):
        yield kind, spec["template"]
    elif kind == "Pod":
        yield kind, document
    elif kind == "LeaderWorkerSet":
        yield f"{kind} leader", spec["leaderWorkerTemplate"]["leaderTemplate"]
        yield f"{kind} worker", spec["leaderWorkerTemplate"]["workerTemplate"]
    elif kind == "MPIJob":
        for role, replicas in spec["mpiReplicaSpecs"].items():
            yield f"{kind} {role}", replicas["template"]


def pregate_commands(arguments):
    """[command, flag...] of each `pregate COMMAND flag...` in a container's arguments."""
    commands = []
    for i, word in enumerate(arguments):
        if word in ("coordinator", "worker") and (i == 0 or arguments[i - 1] == "pregate"):
            commands.append([])
        if word == ":" or not commands:
            continue
        if word not in ("-n", "pregate") and not word.isdigit():
            commands[-1].append(word)
    return commands


def flags_of(command):
    """Flags of `pregate COMMAND` with their defaults ("" where there is none)."""
    page = subprocess.run([BINARY, command, "--help"], capture_output=True, text=True, check=True)
    line = r"^ +(?:-\w,)?(--[\w-]+(?:,--[\w-]+)*)(?: \S+?=(\S+))?"
    found = re.findall(line, page.stdout, re.MULTILINE)
    return {name[2:]: default for names, default in found for name in names.split(",")}
