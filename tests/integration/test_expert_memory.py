"""Less memory than the experts take: the same tokens, metrics that say so, and broken disks."""

import subprocess
import urllib.request
from pathlib import Path

import pytest
from cluster import BINARY, Cluster, make_model
from test_metrics import documented, reported, scrape
from test_same_tokens import greedy_tokens

# The experts of this model take 352 KiB in bf16.
MEMORY = ["--expert-memory", "100K"]


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


def test_greedy_tokens_do_not_depend_on_the_memory(model):
    with Cluster(model, options=["--reproducible"]) as cluster:
        expected = greedy_tokens(cluster)
    for options in ([], ["--expert-io", "direct", "--expert-loaders", "2"]):
        with Cluster(model, options=[*MEMORY, *options]) as cluster:
            assert greedy_tokens(cluster) == expected, options
            text = scrape(cluster.port)
            assert reported(text).items() >= documented("M").items()
            assert "pregate_expert_cache_evictions_total 0\n" not in text
    with Cluster(model, options=["--workers", "2", "--reproducible", *MEMORY]) as cluster:
        assert greedy_tokens(cluster) == expected, "workers with experts on disk"


def test_a_memory_for_no_expert_is_refused(model):
    ended = subprocess.run(
        [BINARY, "bench", "--model", model, "--expert-memory", "1K"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode != 0
    assert "--expert-memory 1024: expected at least" in ended.stderr


def test_a_checkpoint_that_is_replaced_is_not_read_any_further(model):
    with Cluster(model, options=MEMORY) as cluster:
        greedy_tokens(cluster)
        for file in Path(model).glob("*.safetensors"):
            content = file.read_bytes()
            file.unlink()
            file.write_bytes(content)
        status, answer = cluster.post("/v1/completions", {"prompt": [3] * 40, "max_tokens": 8})
        assert status == 503, answer
        assert "was replaced" in answer["error"]["message"]
        with urllib.request.urlopen(cluster.url + "/health", timeout=10) as health:
            assert health.status == 200
