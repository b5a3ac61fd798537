"""`pregate serve --workers`, and `pregate admin` as operators use it."""

import json
import os
import signal
import subprocess
import time

import pytest
from cluster import BINARY, Cluster, settled, wait_until

KEY = "operators-only"


@pytest.fixture
def cluster(model, tmp_path, monkeypatch):
    # A coordinator that is killed leaves its private directory behind.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    key_file = tmp_path / "keys"
    key_file.write_text(KEY + "\n")
    options = ["--workers", "2", "--admin-key-file", key_file]
    with Cluster(model, options=options) as started:
        started.key_file = key_file
        yield started


def admin(cluster, *words):
    """Exit status and what was printed."""
    command = [BINARY, "admin", *words, "--url", cluster.url, "--key-file", cluster.key_file]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stdout + ended.stderr


def workers(cluster):
    status, text = admin(cluster, "workers", "--json")
    assert status == 0, text
    return {worker["name"]: worker for worker in json.loads(text)["workers"]}


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def answer(cluster):
    body = {"prompt": "once upon a time", "max_tokens": 20, "ignore_eos": True, "temperature": 0}
    status, reply = cluster.post("/v1/completions", body)
    assert status == 200, reply
    return reply["choices"][0]["text"]


def test_a_killed_worker_is_started_again_and_all_end_together(cluster):
    wait_until(lambda: {worker["state"] for worker in workers(cluster).values()} == {"ready"})
    before = workers(cluster)
    expected = answer(cluster)
    os.kill(before["worker-1"]["pid"], signal.SIGKILL)
    assert answer(cluster) == expected
    wait_until(
        lambda: workers(cluster)["worker-1"]["pid"] != before["worker-1"]["pid"]
        and workers(cluster)["worker-1"]["state"] == "ready"
    )
    assert answer(cluster) == expected
    pids = [worker["pid"] for worker in workers(cluster).values()]
    assert cluster.stop() == 0
    assert not any(map(is_alive, pids))


def test_workers_die_with_a_coordinator_that_is_killed(cluster):
    pids = [worker["pid"] for worker in workers(cluster).values()]
    cluster.process.kill()
    wait_until(lambda: not any(map(is_alive, pids)))


def test_a_drained_worker_leaves_and_its_experts_stay(cluster):
    expected = answer(cluster)
    num_experts = cluster.send("GET", "/live")[1]["cluster"]["experts"]
    status, text = admin(cluster, "drain", "worker-2", "--wait")
    assert (status, "worker-2: gone" in text) == (0, True), text
    assert workers(cluster)["worker-2"]["state"] == "dead"
    assert settled(lambda: workers(cluster)["worker-1"]["experts"], num_experts) == num_experts
    assert answer(cluster) == expected
    time.sleep(1)  # it is not started again
    assert workers(cluster)["worker-2"]["state"] == "dead"
    assert admin(cluster, "drain", "worker-2")[0] == 1
    assert admin(cluster, "remove", "worker-2")[0] == 0
    assert set(workers(cluster)) == {"worker-1"}


def test_a_placement_can_be_shown_changed_and_set(cluster, tmp_path):
    expected = answer(cluster)
    assert admin(cluster, "balancer", "freeze")[0] == 0
    status, text = admin(cluster, "placement", "show", "--json")
    assert status == 0, text
    target = json.loads(text)["target"]
    experts = target["layers"][0]["experts"]
    experts["worker-1"], experts["worker-2"] = experts["worker-2"], experts["worker-1"]
    file = tmp_path / "placement.json"
    file.write_text(json.dumps(target))
    assert admin(cluster, "placement", "set", file)[0] == 0

    def is_moved():
        table = json.loads(admin(cluster, "placement", "--json")[1])["table"]
        return table["layers"][0]["experts"] == experts

    wait_until(is_moved)
    assert answer(cluster) == expected
    file.write_text(json.dumps(target).replace("worker-2", "worker-22"))
    status, text = admin(cluster, "placement", "set", file)
    assert (status, "worker-22: unknown worker" in text) == (1, True), text


def test_strangers_are_kept_out(cluster, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("guess\n")
    cluster.key_file = wrong
    status, text = admin(cluster, "workers")
    assert (status, "a valid admin key is needed" in text) == (1, True), text
    assert cluster.get("/admin/v1/workers")[0] == 401
