"""Network namespaces as hosts: links that go down, lose packets or carry them one way only.

Needs root, iproute2 and nftables. Interfaces, addresses and rules exist only inside the
namespaces; this process enters that of the coordinator to talk to it.
"""

import contextlib
import ctypes
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from elastic import Host

NAMES = "pregate-test-"  # the process that made it, and what it is, follow
ADDRESS = "10.77.0.{}"
NAMED_NAMESPACES = Path("/run/netns")
CHAIN = "chain arriving {{ type filter hook input priority 0; {} counter drop; }};"
RULES = "table inet test {{ " + CHAIN + " }}"
LOSE = "numgen random mod 100 <= {}"


def why_not():
    """What is missing here; empty if nothing is."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in ("ip", "nft") if shutil.which(tool) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    probe = f"{NAMES}{os.getpid()}-probe"
    try:
        run("ip", "netns", "add", probe)
        run("ip", "netns", "exec", probe, "nft", RULES.format(LOSE.format(5)))
    except subprocess.CalledProcessError as error:
        return f"{' '.join(error.cmd)}: {error.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "del", probe], capture_output=True)
    return ""


def run(*command):
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    return ended.stdout


@contextlib.contextmanager
def entered(namespace):
    """What this thread does inside, and threads it starts, sees the namespace's network only."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(file):
        if libc.setns(file.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    with open("/proc/thread-self/ns/net") as home, open(NAMED_NAMESPACES / namespace) as there:
        enter(there)
        try:
            yield
        finally:
            enter(home)


class Network:
    """A coordinator's host (number 0) and workers' hosts on one bridge; a context manager."""

    def __init__(self, workers=3):
        self.prefix = f"{NAMES}{os.getpid()}-"
        self.switch = self.prefix + "switch"
        self.hosts = [
            Host(ADDRESS.format(number + 1), f"{self.prefix}{number}")
            for number in range(workers + 1)
        ]

    def __enter__(self):
        remove_leftovers()
        try:
            self.build()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.remove()

    def build(self):
        run("ip", "netns", "add", self.switch)
        run("ip", "-n", self.switch, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", self.switch, "link", "set", "bridge", "up")
        for number, host in enumerate(self.hosts):
            namespace, port = host.namespace, f"port{number}"
            run("ip", "netns", "add", namespace)
            ends = ["eth0", "netns", namespace, "type", "veth", "peer", port, "netns", self.switch]
            run("ip", "link", "add", *ends)
            run("ip", "-n", self.switch, "link", "set", port, "master", "bridge", "up")
            run("ip", "-n", namespace, "address", "add", host.address + "/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                run("ip", "-n", namespace, "link", "set", device, "up")

    def remove(self):
        for namespace in [self.switch, *(host.namespace for host in self.hosts)]:
            remove_namespace(namespace)

    def at_the_coordinator(self):
        return entered(self.hosts[0].namespace)

    def set_link(self, number, is_up):
        """Pulls the cable of a host at the switch, or plugs it in."""
        state = "up" if is_up else "down"
        run("ip", "-n", self.switch, "link", "set", f"port{number}", state)

    def drop_from(self, number, share_percent=100):
        """The coordinator hears nothing of the host, or not all."""
        source = f"ip saddr {self.hosts[number].address}"
        self.drop(self.hosts[0], source, share_percent)

    def drop_to(self, number, share_percent=100):
        self.drop(self.hosts[number], f"ip saddr {self.hosts[0].address}", share_percent)

    @staticmethod
    def drop(host, packets, share_percent):
        # Where they arrive: who drops its own packets is told so, and a network tells nobody.
        lost = LOSE.format(share_percent - 1)
        run(*host.prefix, "nft", RULES.format(f"{packets} {lost}"))

    def heal(self):
        """No more packets are dropped; says how many were."""
        num_dropped = 0
        for host in self.hosts:
            listed = run(*host.prefix, "nft", "list", "ruleset")
            num_dropped += sum(map(int, re.findall(r"counter packets (\d+)", listed)))
            run(*host.prefix, "nft", "flush", "ruleset")
        return num_dropped


def remove_namespace(namespace):
    found = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True)
    for pid in map(int, found.stdout.split()):
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", namespace], capture_output=True)


def remove_leftovers():
    """Of runs that were killed before they could do it."""
    for entry in NAMED_NAMESPACES.glob(NAMES + "*") if NAMED_NAMESPACES.exists() else []:
        pid = entry.name.removeprefix(NAMES).split("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            remove_namespace(entry.name)
