"""Rules, alerts and dashboards as files; tests/integration/test_monitoring.py has them at work."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
MONITORING = ROOT / "monitoring"
ALERTS = MONITORING / "alerts" / "pregate.yml"
ALERT_TESTS = sorted((MONITORING / "alerts" / "tests").glob("*.yml"))
PROMETHEUS = MONITORING / "prometheus"
NOT_RUN = 77

sys.path.insert(0, str(MONITORING / "grafana"))
import build  # noqa: E402

DISCOVERY = "    kubernetes_sd_configs:\n      - role: pod\n"
POD = "__meta_kubernetes_pod_"
LABEL = POD + "label_app_kubernetes_io_"


def promtool(*arguments):
    ended = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stdout + ended.stderr


def alert_names():
    return re.findall(r"^ +- alert: (\w+)$", ALERTS.read_text(), re.MULTILINE)


def pod(component, port, **labels):
    """Labels with which Kubernetes' discovery describes a pod's port."""
    return {
        "__address__": "10.1.0.1:1",
        "__meta_kubernetes_namespace": "models",
        POD + "name": f"pod-{component}",
        POD + "phase": "Running",
        POD + "container_port_name": port,
        LABEL + "name": "pregate",
        LABEL + "instance": "olmoe",
        LABEL + "component": component,
        **labels,
    }


class Rules(unittest.TestCase):
    def test_prometheus_takes_the_configuration_and_the_rules(self):
        status, text = promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))
        self.assertEqual(status, 0, text)

    def test_alerts_fire_when_they_should(self):
        status, text = promtool("test", "rules", *map(str, ALERT_TESTS))
        self.assertEqual(status, 0, text)

    def test_each_alert_is_seen_to_fire(self):
        text = "".join(path.read_text() for path in ALERT_TESTS)
        fire = set(re.findall(r"alertname: (\w+)\n.*\n +exp_alerts:\n", text))
        self.assertEqual(fire, set(alert_names()))

    def test_each_alert_has_a_runbook(self):
        headings = re.findall(r"^## (\w+)$", (ROOT / "docs" / "alerts.md").read_text(), re.M)
        self.assertEqual(sorted(headings), sorted(alert_names()))
        runbooks = re.findall(r"runbook: docs/alerts\.md#(\w+)$", ALERTS.read_text(), re.M)
        self.assertEqual(runbooks, [name.lower() for name in alert_names()])

    def test_pods_become_targets_with_the_labels_of_the_rules(self):
        self.assertEqual(
            self.relabelled(pod("coordinator", "http")),
            {
                "job": "pregate-coordinator",
                "cluster": "models/olmoe",
                "instance": "pod-coordinator",
            },
        )
        self.assertEqual(
            self.relabelled(pod("worker", "metrics")),
            {
                "job": "pregate-worker",
                "cluster": "models/olmoe",
                "instance": "pod-worker",
                "worker": "pod-worker",
            },
        )

    def test_other_pods_and_ports_are_left_alone(self):
        for other in (
            pod("coordinator", "http", **{LABEL + "name": "other"}),
            pod("coordinator", "workers"),
            pod("worker", "metrics", **{POD + "phase": "Succeeded"}),
        ):
            self.assertEqual(self.relabelled(other), {})

    def relabelled(self, labels):
        """Debian's Prometheus knows no Kubernetes, so its part is played by a static target."""
        text = (PROMETHEUS / "prometheus-kubernetes.yml").read_text()
        self.assertIn(DISCOVERY, text)
        target = {"targets": [labels["__address__"]], "labels": labels}
        text = text.replace(DISCOVERY, f"    static_configs: {json.dumps([target])}\n")
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as config:
            config.write(text)
            config.flush()
            status, answer = promtool(
                "check", "service-discovery", "--timeout=1s", config.name, "pregate"
            )
        self.assertEqual(status, 0, answer)
        found = json.loads(answer)[0]["labels"] or {}
        return {name: value for name, value in found.items() if not name.startswith("__")}


class Dashboards(unittest.TestCase):
    def test_files_are_what_the_program_writes(self):
        written = {path.name: path.read_text() for path in build.FOLDER.iterdir()}
        self.assertEqual(written, build.files())

    def test_panels_have_their_own_place_number_and_words(self):
        for name, text in build.files().items():
            panels = json.loads(text)["panels"]
            ids = [panel["id"] for panel in panels]
            titles = [panel["title"] for panel in panels if panel["type"] != "row"]
            self.assertEqual(len(set(ids)), len(ids), name)
            self.assertEqual(len(set(titles)), len(titles), name)
            taken = set()
            for panel in panels:
                place = panel["gridPos"]
                cells = {
                    (x, y)
                    for x in range(place["x"], place["x"] + place["w"])
                    for y in range(place["y"], place["y"] + place["h"])
                }
                self.assertFalse(cells & taken, (name, panel["title"]))
                self.assertTrue(all(x < 24 for x, _ in cells), (name, panel["title"]))
                taken |= cells

    def test_runbooks_name_panels_that_exist(self):
        titles = {
            title
            for text in build.files().values()
            for title in re.findall(r'"title": "(.*)"', text)
        }
        text = (ROOT / "docs" / "alerts.md").read_text()
        named = re.findall(r"\*(?:Service|Experts|Cluster)\*, ((?:\*[^*]+\*(?: and )?)+)", text)
        panels = [title for group in named for title in re.findall(r"\*([^*]+)\*", group)]
        self.assertGreater(len(panels), 8)
        self.assertEqual(set(panels) - titles, set())


if __name__ == "__main__":
    if shutil.which("promtool") is None:
        print("not installed: promtool")
        sys.exit(NOT_RUN)
    unittest.main()
