"""Experts on a GPU, alone and beside processors: the same tokens, and none lost when it dies.

Without a GPU the modules are such as need none (PREGATE_FAKE_DEVICE, PREGATE_SOCKET_LANES): the
device is memory that the rest of the process cannot touch, and what computes there.
"""

import json
import os
import subprocess

import pytest
from cluster import BINARY, Cluster, make_model
from elastic import EXACT, FORMAT, ElasticCluster
from test_nccl import NCCL, expect_tokens_over, metrics_of, value
from test_same_tokens import greedy_tokens, greedy_tokens_while

GPU = ["--device", "cuda:0"]
GPU_WORKER = 2
HALVES = {"format": 1, "layers": [{"layers": "all", "experts": {"1": ["0-3"], "2": ["4-7"]}}]}


def version(line):
    told = subprocess.run([BINARY, "version"], capture_output=True, text=True, timeout=60)
    return told.stdout.split(f"{line}: ")[1].splitlines()[0]


def has_gpu():
    return "cuda:0" in version("back ends")


@pytest.fixture(scope="module", autouse=True)
def device():
    with pytest.MonkeyPatch.context() as patch:
        if not has_gpu():
            if "PREGATE_FAKE_DEVICE" not in os.environ:
                pytest.skip("no GPU that can be used (pregate version)")
            patch.setenv("PREGATE_CUDA_MODULE", os.environ["PREGATE_FAKE_DEVICE"])
            patch.setenv("PREGATE_NCCL_MODULE", os.environ["PREGATE_SOCKET_LANES"])
        yield


class MixedCluster(ElasticCluster):
    """Worker 1 on the processor, worker 2 on the GPU; each has half of the experts, be it ever so
    fast."""

    gpu_options = GPU

    def __init__(self, model, directory, options):
        placement = directory / "placement.json"
        placement.write_text(json.dumps(HALVES))
        options = [*options, "--placement", placement, "--freeze-balancer"]
        super().__init__(model, directory, workers=2, options=options)

    def start_worker(self, number):
        self.worker_options = [*FORMAT, *(self.gpu_options if number == GPU_WORKER else [])]
        super().start_worker(number)


class OneGpuForTwo(MixedCluster):
    """Coordinator and worker 2 move payloads by NCCL, though they have one GPU: NCCL bears that
    between two hosts, so it is told that these are two."""

    gpu_options = [*GPU, *NCCL]

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


@pytest.fixture(scope="module")
def expected_on_device(model):
    """Of an engine there: attention rounds in another way, so that the last bits differ."""
    with Cluster(model, options=[*EXACT, *GPU]) as cluster:
        tokens = greedy_tokens(cluster)
        assert cluster.stop() == 0
    return tokens


def test_alone(expected, expected_on_device):
    """But for what the model finds as good as another."""
    same = sum(there == here for there, here in zip(expected_on_device, expected, strict=True))
    assert same >= 0.9 * len(expected)


def test_with_less_memory_than_the_experts_take(model, expected_on_device):
    less = ["--expert-memory", "200K"]
    with Cluster(model, options=[*EXACT, *GPU, *less]) as cluster:
        assert greedy_tokens(cluster) == expected_on_device
        assert value(metrics_of(cluster), "pregate_expert_cache_evictions_total") > 0


def test_beside_a_processor_and_when_it_is_killed(model, expected, tmp_path):
    with MixedCluster(model, tmp_path, EXACT) as cluster:
        assert greedy_tokens(cluster) == expected
        assert "threads of cuda:0;" in cluster.log(f"worker-{GPU_WORKER}")
        assert greedy_tokens_while(cluster, lambda: cluster.kill_worker(GPU_WORKER)) == expected
        cluster.wait_up(GPU_WORKER, up=False)
        assert greedy_tokens(cluster) == expected


@pytest.fixture
def nccl():
    told = version("NCCL")
    if not told[0].isdigit() and told != "of sockets":
        pytest.skip(told)


def test_payloads_go_by_nccl(nccl, model, expected, tmp_path):
    with OneGpuForTwo(model, tmp_path, [*EXACT, *NCCL]) as cluster:
        assert expect_tokens_over(2, cluster, expected) == 0, cluster.log("coordinator")
        assert greedy_tokens_while(cluster, lambda: cluster.kill_worker(GPU_WORKER)) == expected


def device_bytes(metrics, direction):
    return value(metrics, f'pregate_nccl_device_bytes_total{{direction="{direction}"}}')


def test_rows_go_from_device_to_device(nccl, model, expected_on_device, tmp_path):
    with OneGpuForTwo(model, tmp_path, [*EXACT, *GPU, *NCCL]) as cluster:
        assert expect_tokens_over(2, cluster, expected_on_device) == 0, cluster.log("coordinator")
        metrics = metrics_of(cluster)
        assert device_bytes(metrics, "sent") > 0
        assert device_bytes(metrics, "received") > 0
        killed = greedy_tokens_while(cluster, lambda: cluster.kill_worker(GPU_WORKER))
        assert killed == expected_on_device
