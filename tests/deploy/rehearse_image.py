#!/usr/bin/env python3
"""Builds the image of deploy/docker/Dockerfile without a container engine, and runs it.

The stages after `build` are carried out, one instruction after the other, in a fresh Debian 12
(debootstrap); in place of what the stage `build` makes comes a program that is built already, and
with --cuda-module the module of the same build, which the program must find. Then
the coordinator and the workers of compose.yml run in it as they would: with its entry point, as its
user, each as process 1 of its own namespace, on a root file system that cannot be written. They
must become ready, answer the health check, drain when one is stopped, and end when they are told.
Last, sshd of the stage `mpijob` must let that user in.

Takes minutes, and needs root, debootstrap and the Debian archive: no part of tests/run.sh.

    build/venv/bin/python tests/deploy/rehearse_image.py [--binary build/release/pregate]
        [--cuda-module build/release/pregate_cuda.so]
"""

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import dockerfile
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
CLONE_NEWNET = 0x40000000
USER = 10001  # In place of compose's PREGATE_USER.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Into a read-only view of $1 as user $2, with what is mounted into it.
ENTER = """
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -t sysfs sysfs "$1/sys"
mount -t tmpfs tmpfs "$1/tmp"
for folder in models run/secrets monitoring; do
  [ ! -e "$1/$folder" ] || mount --bind "$1/$folder" "$1/$folder"
done
mount -o remount,ro,bind "$1"
root="$1" user="$2"
shift 2
exec chroot --userspec="$user" "$root" "$@"
"""


def say(text):
    print(f"rehearse: {text}", flush=True)


def stages():
    """[(name, [instruction...])] in the order of the file."""
    found = []
    for each in dockerfile.parse_file(str(DOCKER / "Dockerfile")):
        if each.cmd.lower() == "from":
            found.append((each.value[2] if len(each.value) > 2 else "", []))
        elif found:
            found[-1][1].append(each)
    return found


class Image:
    """A root file system, and how its processes are started."""

    def __init__(self, root, made):
        self.root = root
        self.made = made  # What is in /image of the stage `build`.
        self.settings = {}

    def debootstrap(self):
        say(f"debootstrap in {self.root}")
        command = ["debootstrap", "--variant=minbase", "bookworm", self.root]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def build(self, instructions):
        for each in instructions:
            say(" ".join((each.cmd, *each.flags, *each.value))[:100])
            command = each.cmd.lower()
            if command == "run":
                chroot = ["chroot", self.root, "/usr/bin/env", "-i", f"PATH={PATH}"]
                subprocess.run([*chroot, "sh", "-c", each.value[0]], check=True)
            elif command == "copy":
                self.copy(each)
            else:
                self.settings[command] = each.value

    def copy(self, instruction):
        *sources, target = instruction.value
        into = self.root / target.lstrip("/")
        if instruction.flags:
            if (list(instruction.flags), sources) != (["--from=build"], ["/image/"]):
                sys.exit(f"rehearse: cannot carry out: {instruction.original}")
            shutil.copytree(self.made, into, dirs_exist_ok=True)
            return
        for source in sources:
            file = into / Path(source).name if target.endswith("/") else into
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / source, file)

    def start(self, arguments, environment=(), user=f"{USER}:{USER}", stdout=None):
        inside = ["/usr/bin/env", "-i", f"PATH={PATH}", *environment, *arguments]
        namespaces = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork"]
        command = [*namespaces, "sh", "-ec", ENTER, "sh", self.root, user, *inside]
        return subprocess.Popen(command, stdout=stdout, text=True)


def status_of(url, key=None):
    request = urllib.request.Request(url)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def wait_until(what, condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"rehearse: {what}: not after {seconds} s")
        time.sleep(0.2)
    say(f"{what}: yes")


def first_process(process):
    """Process 1 of the namespace that `process` (unshare) made."""
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def end(name, process):
    os.kill(first_process(process), signal.SIGTERM)
    code = process.wait(timeout=60)
    if code != 0:
        sys.exit(f"rehearse: {name} ended with {code}")
    say(f"{name} ended when it was told to")


@contextlib.contextmanager
def ended(processes):
    try:
        yield
    finally:
        for process in processes.values():
            with contextlib.suppress(OSError, IndexError):  # It has ended already.
                os.kill(first_process(process), signal.SIGKILL)
            process.wait()


def what_build_makes(options, folder):
    """As the stage `build` leaves it in /image."""
    (folder / "bin").mkdir(parents=True)
    shutil.copy(options.binary, folder / "bin" / "pregate")
    if options.cuda_module:
        (folder / "lib" / "pregate").mkdir(parents=True)
        shutil.copy(options.cuda_module, folder / "lib" / "pregate" / "pregate_cuda.so")
    return folder


def check_program(image, has_module):
    """That it starts, and says of CUDA what is true."""
    process = image.start([*image.settings["entrypoint"], "version"], stdout=subprocess.PIPE)
    page, _ = process.communicate(timeout=60)
    if process.returncode != 0:
        sys.exit("rehearse: the program does not start: is a library missing in [run]?")
    line = next(line for line in page.splitlines() if line.startswith("CUDA: "))
    say(line)
    refused = ("no CUDA module", "cannot be loaded", "of another build", "is no CUDA module")
    if any(words in line for words in refused) == has_module:
        expected = "the CUDA module" if has_module else "no CUDA module"
        sys.exit(f"rehearse: expected {expected} in the image")


def prepare_mounts(root):
    """What compose.yml mounts: secrets of a file's owner, and a model."""
    secrets = root / "run" / "secrets"
    command = [ROOT / "deploy" / "make-secrets.sh", secrets]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    for path in (secrets, *secrets.iterdir()):
        os.chown(path, USER, USER)
    model = root / "models" / "pregate-tiny"
    shutil.copytree(ROOT / "models" / "pregate-tiny", model, dirs_exist_ok=True)
    return (secrets / "api.keys").read_text()


def run_compose(image):
    services = yaml.safe_load((DOCKER / "compose.yml").read_text())["services"]
    ours = {name: each for name, each in services.items() if "pregate" in each["image"]}
    addresses = {name: f"127.0.0.{i}" for i, name in enumerate(ours, 1)}
    hosts = "".join(f"{address} {name}\n" for name, address in addresses.items())
    (image.root / "etc" / "hosts").write_text(hosts)
    key = prepare_mounts(image.root)
    processes = {}
    with ended(processes):
        for name, service in ours.items():
            # One network for all of them: each has an address of its own in it.
            words = [word.replace("0.0.0.0", addresses[name]) for word in service["command"]]
            if words[0] == "worker":
                words.append(f"--name={service['hostname']}")
            variables = dict(service["environment"]) | {"PREGATE_MODEL": "/models/pregate-tiny"}
            environment = [f"{variable}={value}" for variable, value in variables.items()]
            processes[name] = image.start([*image.settings["entrypoint"], *words], environment)
        url = f"http://{addresses['coordinator']}:8000"
        for name, address in addresses.items():
            ready = f"http://{address}:8000/health/ready"
            wait_until(f"{name} is ready", lambda ready=ready: status_of(ready) == 200)
        check = image.start(image.settings["healthcheck"][1:])
        if check.wait(timeout=30) != 0:
            sys.exit("rehearse: the image's health check fails")
        say("the image's health check passes")
        for given, expected in ((None, 401), (key, 200)):
            if status_of(f"{url}/v1/models", given) != expected:
                sys.exit(f"rehearse: expected status {expected} with key {given}")
        say("the API wants a key, and takes the one that was made")
        workers = [name for name in processes if name != "coordinator"]
        end(workers[-1], processes.pop(workers[-1]))
        if status_of(f"{url}/health/ready") != 200:
            sys.exit("rehearse: not ready without the worker that was drained")
        end("coordinator", processes.pop("coordinator"))


def run_sshd(image):
    home = image.root / "var" / "lib" / "pregate"
    keys = home / ".ssh"
    keys.mkdir(exist_ok=True)
    key = keys / "id_rsa"
    key.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", key], check=True)
    shutil.copy(keys / "id_rsa.pub", keys / "authorized_keys")
    for path in keys.iterdir():
        # As the operator mounts it: root's, readable by fsGroup.
        os.chown(path, 0, USER)
        path.chmod(0o640)
    processes = {"sshd": image.start(image.settings["cmd"])}
    with ended(processes):
        command = ["ssh", "-i", "/var/lib/pregate/.ssh/id_rsa", "127.0.0.1", "pregate", "version"]

        def is_let_in():
            return image.start(command, ["HOME=/var/lib/pregate"]).wait(timeout=30) == 0

        wait_until("sshd lets its user start pregate", is_let_in, seconds=30)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT / "build" / "release" / "pregate"
    parser.add_argument("--binary", type=Path, default=default, help="what `build` would make")
    parser.add_argument("--cuda-module", type=Path, help="and that with CUDA, of the same build")
    parser.add_argument("--root", type=Path, help="folder to build in, and to keep; must not exist")
    options = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        sys.exit("rehearse: needs root and debootstrap")
    for flag, file in (("binary", options.binary), ("cuda-module", options.cuda_module)):
        if file and not file.is_file():
            sys.exit(f"rehearse: --{flag} {file}: no such file")
    with tempfile.TemporaryDirectory() as scratch:
        made = what_build_makes(options, Path(scratch) / "image")
        image = Image((options.root or Path(scratch) / "root").resolve(), made)
        image.debootstrap()
        named = dict(stages())
        image.build(named["runtime"])
        check_program(image, has_module=options.cuda_module is not None)
        mpijob = Image(image.root, image.made)
        mpijob.build(named["mpijob"])
        # From here on, a network of this process and its children alone.
        if ctypes.CDLL(None).unshare(CLONE_NEWNET) != 0:
            sys.exit("rehearse: cannot make a network namespace")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        run_compose(image)
        run_sshd(mpijob)
    say("passed")


if __name__ == "__main__":
    main()
