"""Large payloads beside the transport that carries the rest: the same tokens, and all of it seen.

Without a GPU lanes are sockets (the module that PREGATE_NCCL_MODULE names), as in the tests of the
transport; everything else is what runs with one. test_gpu.py does the same with NCCL itself.
"""

import os
import re
import subprocess

import pytest
from cluster import BINARY, Cluster, make_model, wait_until
from elastic import EXACT, FORMAT, ElasticCluster
from test_same_tokens import greedy_tokens, greedy_tokens_while

# A row of the model that is served here takes some hundred bytes: decoding does not go by lanes.
NCCL = ["--nccl", "cuda:0", "--nccl-min-payload", "4K"]
# A lane is given up after a part of this: not when a process is held up for a moment.
NCCL += ["--dead-after", "60s"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("nccl") / "model")


@pytest.fixture(scope="module")
def expected(model):
    with Cluster(model, options=EXACT) as cluster:
        return greedy_tokens(cluster)


@pytest.fixture
def lanes_of_sockets(monkeypatch):
    monkeypatch.setenv("PREGATE_NCCL_MODULE", os.environ["PREGATE_SOCKET_LANES"])


def value(metrics, name):
    found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
    assert found, f"{name} is not there"
    return float(found[1])


def metrics_of(cluster):
    return cluster.get("/metrics")[1]


def num_lanes(cluster):
    return value(metrics_of(cluster), "pregate_nccl_lanes")


def expect_tokens_over(lanes, cluster, expected):
    """They are the same before lanes are up, which prompts ask for, and over them."""

    def are_up():
        assert greedy_tokens(cluster) == expected
        return num_lanes(cluster) == lanes

    wait_until(are_up, seconds=90)
    assert greedy_tokens(cluster) == expected
    metrics = metrics_of(cluster)
    for direction in ("sent", "received"):
        assert value(metrics, f'pregate_nccl_bytes_total{{direction="{direction}"}}') > 0
    return value(metrics, "pregate_nccl_broken_lanes_total")


def test_over_ucx_and_when_a_worker_is_killed(lanes_of_sockets, model, expected, tmp_path):
    with ElasticCluster(
        model, tmp_path, 2, options=[*EXACT, *NCCL], worker_options=[*FORMAT, *NCCL]
    ) as cluster:
        assert expect_tokens_over(4, cluster, expected) == 0  # there and back for each worker
        assert greedy_tokens_while(cluster, lambda: cluster.kill_worker(2)) == expected
        wait_until(lambda: num_lanes(cluster) == 2)
        cluster.start_worker(2)
        cluster.wait_up(2)
        expect_tokens_over(4, cluster, expected)


def test_beside_a_worker_without(lanes_of_sockets, model, expected, tmp_path):
    class OneWithout(ElasticCluster):
        def start_worker(self, number):
            self.worker_options = [*FORMAT, *(NCCL if number == 1 else [])]
            super().start_worker(number)

    with OneWithout(model, tmp_path, 2, options=[*EXACT, *NCCL]) as cluster:
        assert expect_tokens_over(2, cluster, expected) == 0


def test_over_mpi(lanes_of_sockets, model, expected):
    with Cluster(model, ranks=3, options=[*EXACT, *NCCL]) as cluster:
        assert expect_tokens_over(4, cluster, expected) == 0
        assert cluster.stop() == 0


def refusal(model, *options):
    command = [BINARY, "serve", "--model", model, "--port", "0", *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0
    return ended.stderr.strip().splitlines()[-1]


def test_is_refused_where_there_is_nobody_to_send_to(model):
    for options in ([], ["--workers", "2"]):
        assert "--nccl cuda:0: is for a coordinator and workers" in refusal(model, *NCCL, *options)
