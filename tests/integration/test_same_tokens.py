"""Where experts live never changes the answer: greedy tokens are equal on any number of workers."""

import json
import random
import threading

import pytest
from cluster import Cluster, make_model
from elastic import ElasticCluster

NUM_PROMPTS = 50
NUM_TOKENS = 16
UNEVEN = {
    "format": 1,
    "layers": [
        {"layers": [0], "experts": {"1": ["0-6"], "2": [7]}},
        {"layers": [1], "experts": {"2": ["0-7"]}},
    ],
}


def prompts(vocab_size=250):
    source = random.Random(11)
    return [
        [source.randrange(vocab_size) for _ in range(source.randint(1, 40))]
        for _ in range(NUM_PROMPTS)
    ]


def greedy_tokens(cluster):
    status, answer = cluster.post(
        "/v1/completions",
        {
            "prompt": prompts(),
            "max_tokens": NUM_TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "return_token_ids": True,
        },
    )
    assert status == 200, answer
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    assert len(choices) == NUM_PROMPTS
    return [choice["token_ids"] for choice in choices]


def greedy_tokens_while(cluster, disturb):
    """Of requests that run while `disturb` is called."""
    answers = []
    asking = threading.Thread(target=lambda: answers.append(greedy_tokens(cluster)))
    asking.start()
    disturb()
    asking.join(timeout=120)
    assert answers, "no answer"
    return answers[0]


@pytest.mark.parametrize("weights, dtype", [("bf16", "bf16"), ("q8", "bf16"), ("q4", "bf16"),
                                            ("f8", "f8")])
def test_greedy_tokens_do_not_depend_on_the_number_of_workers(tmp_path, weights, dtype):
    model = make_model(tmp_path / "model", "--dtype", dtype)
    options = ["--weights", weights, "--reproducible"]
    with Cluster(model, ranks=1, options=options) as cluster:
        expected = greedy_tokens(cluster)
    assert all(len(tokens) == NUM_TOKENS for tokens in expected)
    assert len({tuple(tokens) for tokens in expected}) > NUM_PROMPTS // 2, "hardly any variety"
    for ranks in (2, 3, 5):
        with Cluster(model, ranks=ranks, options=options) as cluster:
            assert greedy_tokens(cluster) == expected, f"{ranks} ranks"
    placement = tmp_path / "placement.json"
    placement.write_text(json.dumps(UNEVEN))
    with Cluster(model, ranks=3, options=[*options, "--placement", placement]) as cluster:
        assert greedy_tokens(cluster) == expected, "uneven placement"


def test_greedy_tokens_are_the_same_over_ucx(tmp_path):
    model = make_model(tmp_path / "model")
    weights = ["--weights", "q8"]
    with Cluster(model, ranks=3, options=[*weights, "--reproducible"]) as cluster:
        expected = greedy_tokens(cluster)
    with ElasticCluster(
        model, tmp_path, 2, options=[*weights, "--reproducible"], worker_options=weights
    ) as cluster:
        assert greedy_tokens(cluster) == expected
