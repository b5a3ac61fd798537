"""Experts on a GPU, alone and beside processors: the same tokens, and none lost when it dies."""

import os
import subprocess

import pytest
from cluster import BINARY, Cluster, make_model
from elastic import EXACT, FORMAT, ElasticCluster
from test_nccl import NCCL, expect_tokens_over
from test_same_tokens import greedy_tokens, greedy_tokens_while

GPU = ["--device", "cuda:0"]
GPU_WORKER = 2


def version(line):
    told = subprocess.run([BINARY, "version"], capture_output=True, text=True, timeout=60)
    return told.stdout.split(f"{line}: ")[1].splitlines()[0]


def has_gpu():
    return "cuda:0" in version("back ends")


pytestmark = pytest.mark.skipif(not has_gpu(), reason="no GPU that can be used (pregate version)")


class MixedCluster(ElasticCluster):
    """Worker 1 on the processor, worker 2 on the GPU."""

    def start_worker(self, number):
        self.worker_options = [*FORMAT, *(GPU if number == GPU_WORKER else [])]
        super().start_worker(number)


class OneGpuForTwo(ElasticCluster):
    """Coordinator and worker 2 move payloads by NCCL, though they have one GPU: NCCL bears that
    between two hosts, so it is told that these are two."""

    def start_worker(self, number):
        self.worker_options = [*FORMAT, *([*GPU, *NCCL] if number == GPU_WORKER else [])]
        super().start_worker(number)

    def spawn(self, host, arguments, log):
        os.environ |= {"NCCL_HOSTID": log, "NCCL_SOCKET_IFNAME": "lo", "NCCL_IB_DISABLE": "1"}
        return super().spawn(host, arguments, log)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("gpu") / "model")


@pytest.fixture(scope="module")
def expected(model):
    with Cluster(model, options=EXACT) as cluster:
        return greedy_tokens(cluster)


def test_alone(model, expected):
    with Cluster(model, options=[*EXACT, *GPU]) as cluster:
        assert greedy_tokens(cluster) == expected
        assert cluster.stop() == 0


def test_beside_a_processor_and_when_it_is_killed(model, expected, tmp_path):
    with MixedCluster(model, tmp_path, workers=2, options=EXACT) as cluster:
        assert greedy_tokens(cluster) == expected
        assert "threads of cuda:0;" in cluster.log(f"worker-{GPU_WORKER}")
        assert greedy_tokens_while(cluster, lambda: cluster.kill_worker(GPU_WORKER)) == expected
        cluster.wait_up(GPU_WORKER, up=False)
        assert greedy_tokens(cluster) == expected


def test_payloads_go_by_nccl(model, expected, tmp_path):
    if not version("NCCL")[0].isdigit():
        pytest.skip(version("NCCL"))
    with OneGpuForTwo(model, tmp_path, workers=2, options=[*EXACT, *NCCL]) as cluster:
        assert expect_tokens_over(2, cluster, expected) == 0, cluster.log("coordinator")
        assert greedy_tokens_while(cluster, lambda: cluster.kill_worker(GPU_WORKER)) == expected
