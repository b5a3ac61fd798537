"""models/pregate-tiny-refactored: its router knows all experts of a token before any is needed."""

from pathlib import Path

import pytest
from cluster import Cluster
from test_lifecycle import metric
from test_metrics import scrape
from test_same_tokens import greedy_tokens

MODEL = Path(__file__).parents[2] / "models" / "pregate-tiny-refactored"
# About a quarter of what its experts take in bf16.
SHORT = ["--expert-memory", "2M", "--lookahead", "pregate"]


@pytest.fixture(scope="module")
def expected():
    with Cluster(MODEL, options=["--reproducible"]) as cluster:
        return greedy_tokens(cluster)


def test_it_answers_in_words():
    with Cluster(MODEL) as cluster:
        body = {"prompt": "And the LORD said unto", "max_tokens": 24, "temperature": 0}
        status, answer = cluster.post("/v1/completions", body)
    assert status == 200, answer
    assert len(answer["choices"][0]["text"].split()) >= 8, answer


@pytest.mark.parametrize("options", [[], ["--batch-policy", "expert-aware"]])
def test_greedy_tokens_do_not_depend_on_the_number_of_workers(expected, options):
    with Cluster(MODEL, ranks=3, options=["--reproducible", *options]) as cluster:
        assert greedy_tokens(cluster) == expected


def test_with_less_memory_than_its_experts_every_plan_comes_true(expected):
    with Cluster(MODEL, options=["--reproducible", *SHORT]) as cluster:
        assert greedy_tokens(cluster) == expected
        text = scrape(cluster.port)
    hits = metric(text, "pregate_lookahead_hits_total")
    assert hits > 0
    assert metric(text, "pregate_lookahead_guesses_total") == hits, "a plan that was wrong"
    assert metric(text, "pregate_lookahead_needed_total") == hits, "a need without a plan"


def test_workers_with_experts_on_disk_are_told_the_plan(expected):
    with Cluster(MODEL, options=["--workers", "2", "--reproducible", *SHORT]) as cluster:
        assert greedy_tokens(cluster) == expected
