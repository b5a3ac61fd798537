"""What the live page reads, wherever the experts are."""

import pytest
from cluster import Cluster, settled, wait_until

NUM_TOKENS = 20


def live(cluster):
    status, answer = cluster.send("GET", "/live")
    assert status == 200, answer
    return answer


def states(answer):
    return [worker["state"] for worker in answer["cluster"]["workers"]]


@pytest.mark.parametrize(
    ("ranks", "options", "num_workers"), [(1, (), 0), (1, ("--workers", "2"), 2), (3, (), 2)]
)
def test_it_follows_what_is_computed(model, tmp_path, monkeypatch, ranks, options, num_workers):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Cluster(model, ranks=ranks, options=options) as cluster:
        wait_until(lambda: live(cluster)["ready"])
        before = live(cluster)
        shape = before["model"]
        assert (before["ready"], before["state"], before["name"]) == (True, "ready", "model")
        assert before["tokens"] == {"prompt": 0, "generated": 0}
        body = {"prompt": "once upon a time", "max_tokens": NUM_TOKENS, "ignore_eos": True}
        status, answer = cluster.post("/v1/completions", body)
        assert status == 200, answer
        wait_until(lambda: live(cluster)["requests"]["running"] == 0)
        after = live(cluster)
        assert after["seconds"] > before["seconds"]
        assert after["tokens"]["generated"] == NUM_TOKENS
        assert after["tokens"]["prompt"] == answer["usage"]["prompt_tokens"]
        assert after["first_token"]["count"] == 1
        assert after["inter_token"]["count"] == NUM_TOKENS - 1
        rows = after["experts"]["rows"]
        assert len(rows) == len(after["experts"]["layers"]) > 0
        assert all(len(row) == shape["experts"] and sum(row) > 0 for row in rows)
        if num_workers == 0:
            assert after["cluster"] is None
            return
        all_ready = ["ready"] * num_workers
        # One that is held up for a moment is not ready meanwhile.
        assert settled(lambda: states(live(cluster)), all_ready) == all_ready
        workers = after["cluster"]["workers"]
        assert sum(worker["experts"] for worker in workers) == after["cluster"]["experts"]
