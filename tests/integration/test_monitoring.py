"""What watches a cluster, at work: a Prometheus server scrapes one under load, and has data for
every rule, alert and dashboard query."""

import json
import re
import shutil
import time

import pytest
from cluster import free_port, wait_until
from elastic import ElasticCluster, Load
from prometheus import MONITORING, Prometheus

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="not installed: prometheus"
)

NUM_TOKENS = 32
COORDINATOR = ["--per-expert-metrics", "--lookahead", "auto"]
# The experts of this model take 352 KiB in bf16.
WORKER = ["--expert-memory", "100K"]
COMPARISON = re.compile(r" ([<>]=?|[!=]=) ")
VARIABLES = {"$__rate_interval": "20s", "$__range": "1m"}


class WatchedCluster(ElasticCluster):
    """Its workers answer Prometheus too."""

    def __init__(self, model, directory):
        super().__init__(model, directory, workers=2, options=COORDINATOR)
        self.metrics_ports = {number: free_port() for number in (1, 2)}

    def start_worker(self, number):
        self.worker_options = [*WORKER, "--metrics-port", self.metrics_ports[number]]
        super().start_worker(number)

    def targets(self):
        workers = {
            f"10.0.0.{number + 1}:9100": f"127.0.0.1:{port}"
            for number, port in self.metrics_ports.items()
        }
        return {"10.0.0.1:8000": f"127.0.0.1:{self.port}", **workers}


@pytest.fixture(scope="module")
def watched(model, asked, tmp_path_factory):
    """A cluster under load and the server that watches it."""
    directory = tmp_path_factory.mktemp("watched")
    with WatchedCluster(model, directory) as cluster:
        with Load(cluster.url, asked, NUM_TOKENS) as load:
            with Prometheus(directory / "prometheus", cluster.targets()) as server:
                # Rates need samples from before the load and after it.
                wait_until(lambda: server.query("pregate:expert_cache_hits:ratio_rate5m"))
                yield cluster, server
        load.answers()


def dashboards():
    return {
        path.stem: json.loads(path.read_text())
        for path in sorted((MONITORING / "grafana" / "dashboards").iterdir())
    }


def filled_in(text):
    """As Grafana sends a query when everything is chosen."""
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    return re.sub(r"\$\w+", ".*", text)


def panel_queries():
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel.get("targets", []):
                yield f"{name}: {panel['title']}", filled_in(target["expr"])


def test_an_undisturbed_cluster_raises_no_alarm(watched):
    _, server = watched
    assert {target["labels"].get("worker") for target in server.scraped()} == {
        None,
        "worker-1",
        "worker-2",
    }
    # So small a memory does miss. What was not there yet when the server began to look may fire
    # until it looks again.
    expected = {("PregateExpertCacheHitRateLow", f"worker-{n}") for n in (1, 2)}
    wait_until(lambda: server.firing() <= expected)


def test_a_killed_worker_is_noticed_until_it_is_back(watched):
    cluster, server = watched
    cluster.kill_worker(2)
    wait_until(lambda: ("PregateWorkerDown", "worker-2") in server.firing())
    cluster.start_worker(2)
    wait_until(lambda: ("PregateWorkerDown", "worker-2") not in server.firing())
    assert not any(name == "PregateRequestsLost" for name, _ in server.firing())


def rule_queries(server):
    yield from server.rules("recording").items()
    for name, query in server.rules("alerting").items():
        # What it compares is there, whether it is true or not.
        yield name, COMPARISON.sub(r" \1 bool ", query)


def test_all_rules_and_panels_have_data(watched):
    _, server = watched
    without_data = [*rule_queries(server), *panel_queries()]
    assert len(without_data) > 70
    deadline = time.monotonic() + 30
    while without_data and time.monotonic() < deadline:
        without_data = [each for each in without_data if not server.query(each[1])]
        time.sleep(0.2)
    assert not without_data


def test_variables_of_dashboards_have_values(watched):
    _, server = watched
    for name, dashboard in dashboards().items():
        for variable in dashboard["templating"]["list"][1:]:
            series, label = re.fullmatch(
                r"label_values\((.*), (\w+)\)", filled_in(variable["query"]["query"])
            ).groups()
            assert server.ask(f"label/{label}/values", **{"match[]": series}), (name, variable)


def test_a_drained_worker_is_not_missed(watched):
    cluster, server = watched
    cluster.admin("workers/worker-2/drain", "POST")
    cluster.workers[2].wait(timeout=30)
    wait_until(lambda: server.query('pregate_workers{state="dead"} == 1'))
    wait_until(lambda: not server.query('pregate_worker_up{worker="worker-2"}'))
    # What it was held up before may still be told until the server looks again.
    wait_until(lambda: ("PregateWorkerDown", "worker-2") not in server.firing())
