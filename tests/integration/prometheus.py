"""A Prometheus server that watches a cluster with the configuration and rules of monitoring/."""

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from cluster import free_port, wait_until

MONITORING = Path(__file__).parents[2] / "monitoring"
FILES = ("prometheus/prometheus.yml", "prometheus/recording_rules.yml", "alerts/pregate.yml")


def for_a_test(text, directory):
    """Scrapes and evaluates each second, and alerts fire as soon as they are true."""
    text = re.sub(r"(scrape_interval|evaluation_interval): \w+", r"\1: 1s", text)
    text = re.sub(r"^( +for): \w+$", r"\1: 0s", text, flags=re.MULTILINE)
    return text.replace("../alerts", str(directory))


class Prometheus:
    """Use as a context manager. `targets`: addresses by what stands for them in the file."""

    def __init__(self, directory, targets):
        self.directory = directory
        self.targets = targets
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api/v1/"
        self.process = None

    def __enter__(self):
        self.directory.mkdir()
        for file in FILES:
            text = for_a_test((MONITORING / file).read_text(), self.directory)
            for written, ours in self.targets.items():
                text = text.replace(f'"{written}"', f'"{ours}"')
            (self.directory / Path(file).name).write_text(text)
        try:
            self.start()
            wait_until(self.is_ready)
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_):
        self.kill()

    def start(self):
        command = ["prometheus", f"--config.file={self.directory}/prometheus.yml"]
        command += [f"--storage.tsdb.path={self.directory}/data"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}"]
        with open(self.directory / "prometheus.log", "wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def is_ready(self):
        assert self.process.poll() is None, (self.directory / "prometheus.log").read_text()
        try:
            return {target["health"] for target in self.scraped()} == {"up"}
        except OSError:
            return False

    def ask(self, path, **parameters):
        """What the server's API answers; what it refuses is an OSError."""
        url = self.url + path + "?" + urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise OSError(f"{parameters}: {error.read().decode()}") from None

    def scraped(self):
        return self.ask("targets", state="active")["activeTargets"]

    def query(self, expression):
        """Values by labels: those that are numbers."""
        found = self.ask("query", query=expression)["result"]
        return {
            tuple(sorted(series["metric"].items())): float(series["value"][1])
            for series in found
            if series["value"][1] != "NaN"
        }

    def rules(self, kind):
        """Names and expressions; `kind`: recording or alerting."""
        groups = self.ask("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"] if rule["type"] == kind]
        return {rule["name"]: rule["query"] for rule in rules}

    def firing(self):
        """Alerts, with the worker where they name one."""
        alerts = [alert for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"]
        return {(alert["labels"]["alertname"], alert["labels"].get("worker")) for alert in alerts}
