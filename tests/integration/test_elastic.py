"""Workers die, freeze, leave and come back under load: no request fails, no token differs."""

import os
import re
import signal
import socket
import subprocess
import time

import pytest
from cluster import BINARY, make_model, wait_until
from elastic import FORMAT, cluster_of, prompts, report, undisturbed, unnoticed


def in_turn(model, directory, replicas, asked, expected, trouble):
    """`trouble` happens to one worker after the other, and says when it began."""
    moments = []
    with cluster_of(model, directory, replicas) as cluster:
        with unnoticed(cluster, asked, expected) as load:
            for number in (1, 2, 3):
                moments.append(trouble(cluster, number))
        report(f"{replicas} replicas", load, moments)
        assert cluster.stop() == 0


@pytest.mark.parametrize("replicas", [2, 1])
def test_each_worker_is_killed_in_turn(model, tmp_path, replicas, asked, expected):
    def kill(cluster, number):
        time.sleep(0.7)
        moment = time.monotonic()
        cluster.kill_worker(number)
        cluster.wait_up(number, up=False)
        cluster.start_worker(number)
        cluster.wait_up(number)
        wait_until(lambda: cluster.get("/health/ready")[0] == 200)
        return f"worker {number} killed", moment

    in_turn(model, tmp_path, replicas, asked, expected, kill)


@pytest.mark.parametrize("replicas", [2, 1])
def test_each_worker_is_frozen_for_five_seconds(model, tmp_path, replicas, asked, expected):
    def freeze(cluster, number):
        time.sleep(0.5)
        moment = time.monotonic()
        cluster.signal_worker(number, signal.SIGSTOP)
        time.sleep(5)
        cluster.signal_worker(number, signal.SIGCONT)
        wait_until(lambda: cluster.metric("pregate_workers", state="ready") == 3)
        time.sleep(1)
        return f"worker {number} frozen", moment

    in_turn(model, tmp_path, replicas, asked, expected, freeze)


def test_killed_while_it_loads_and_while_experts_move(model, tmp_path, asked, expected):
    with cluster_of(model, tmp_path, 1, more=["--rebalance-rate", "256K"]) as cluster:
        with unnoticed(cluster, asked, expected):
            # A newcomer is killed as soon as it is given experts to load.
            cluster.start_worker(4)
            cluster.wait_up(4)
            time.sleep(0.3)
            cluster.kill_worker(4)
            cluster.start_worker(4)
            cluster.wait_up(4)
            # One hands its experts over, and one of those that load them dies on the way.
            cluster.signal_worker(3, signal.SIGTERM)
            time.sleep(0.2)
            cluster.kill_worker(1)
            cluster.start_worker(1)
            cluster.wait_up(1)
        cluster.workers[3].wait(timeout=30)
        assert cluster.workers[3].returncode == 0, "drained, then left"


# Slower than this, moving a worker's share takes half a minute; faster, it is over before a kill.
SLOWLY = ["--rebalance-rate", "12K", "--freeze-balancer"]
GIVER, TAKER = 1, 2
LAYERS = [0, 1]  # of the model


def give_all(cluster):
    """An operator moves all that one worker holds to another one."""
    target = cluster.admin("placement")["target"]
    for layer in target["layers"]:
        layer["experts"][f"worker-{TAKER}"] += layer["experts"].pop(f"worker-{GIVER}")
    cluster.admin("placement", "PUT", target)


def wait_until_half_way(cluster):
    """Some copies are there, others on the way."""

    def is_half_way():
        balancer = cluster.admin("balancer")
        assert balancer["moving"], balancer
        return 0 < balancer["replicas_left"] < balancer["replicas_to_load"]

    wait_until(is_half_way)


def holders(placement):
    """By layer and expert."""
    found = {}
    for entry in placement["layers"]:
        for worker, experts in entry["experts"].items():
            for item in map(str, experts):
                first, _, last = item.partition("-")
                for expert in range(int(first), int(last or first) + 1):
                    for layer in LAYERS if entry["layers"] == "all" else entry["layers"]:
                        found.setdefault((layer, expert), set()).add(worker)
    return found


def is_at_rest(cluster):
    """Everything is held where it is to be held."""
    placement = cluster.admin("placement")
    is_reached = holders(placement["table"]) == holders(placement["target"])
    return is_reached and not cluster.admin("balancer")["moving"]


@pytest.mark.parametrize("comes_back", [True, False])
@pytest.mark.parametrize("victim", [GIVER, TAKER])
def test_killed_half_way_through_a_move(model, tmp_path, asked, expected, victim, comes_back):
    with cluster_of(model, tmp_path, 1, more=SLOWLY) as cluster:
        before = holders(cluster.admin("placement")["target"])
        with unnoticed(cluster, asked, expected) as load:
            give_all(cluster)
            wait_until_half_way(cluster)
            moment = time.monotonic()
            cluster.kill_worker(victim)
            cluster.wait_up(victim, up=False)
            if comes_back:
                cluster.start_worker(victim)
                cluster.wait_up(victim)
            wait_until(lambda: is_at_rest(cluster), seconds=60)
        report("1 replica", load, [(f"worker {victim} killed", moment)])
        after = holders(cluster.admin("placement")["table"])
        assert set(after) == set(before)
        moved = {key for key, workers in before.items() if f"worker-{GIVER}" in workers}
        if victim == TAKER and not comes_back:
            # Its own and what it was to get have other homes.
            assert all(f"worker-{TAKER}" not in workers for workers in after.values())
        else:
            assert all(after[key] == {f"worker-{TAKER}"} for key in moved)
        wait_until(lambda: cluster.get("/health/ready")[0] == 200)
        assert cluster.stop() == 0


def test_long_prompts_survive_a_death_in_prefill(model, tmp_path):
    asked = prompts(requests_per_stream=3, longest=400)
    expected = undisturbed(model, tmp_path, asked)
    with cluster_of(model, tmp_path, 2) as cluster:
        with unnoticed(cluster, asked, expected):
            time.sleep(0.05)
            cluster.kill_worker(2)
            cluster.start_worker(2)


def test_nowhere_to_load_ends_in_503_after_the_wait(model, tmp_path):
    with cluster_of(model, tmp_path, 1, workers=1, more=["--expert-wait", "2s"]) as cluster:
        cluster.kill_worker(1)
        cluster.wait_up(1, up=False)
        ask = {"prompt": "a", "max_tokens": 4}
        # In less time than requests wait by default.
        status, answer = cluster.post("/v1/completions", ask, timeout=40)
        assert status == 503, answer
        assert "worker-1" in answer["error"]["message"]
        cluster.start_worker(1)
        wait_until(lambda: cluster.get("/health/ready")[0] == 200)
        # A worker that is held up for longer than requests wait may cost one of them.
        wait_until(lambda: cluster.post("/v1/completions", ask)[0] == 200)


@pytest.mark.parametrize("workers, ready_status", [(1, 503), (2, 200)])
def test_readiness_while_a_worker_is_frozen(model, tmp_path, workers, ready_status):
    """Not ready while nobody who answers holds an expert; ready where another worker does."""

    def is_told(cluster):
        status, body = cluster.get("/health/ready")
        is_unanswered = cluster.metric("pregate_unanswered_experts") > 0
        assert cluster.metric("pregate_missing_experts") == 0
        return (status, "worker-1" in body, is_unanswered) == (
            ready_status, ready_status == 503, ready_status == 503
        )

    # Not given up: then it would be another story.
    patient = ["--dead-after", "60s"]
    with cluster_of(model, tmp_path, workers, workers=workers, more=patient) as cluster:
        wait_until(lambda: cluster.metric("pregate_workers", state="ready") == workers)
        cluster.signal_worker(1, signal.SIGSTOP)
        # The other one may be held up for a moment, too.
        wait_until(lambda: not cluster.states()["worker-1"] and is_told(cluster))
        assert not cluster.states()["worker-1"]
        cluster.signal_worker(1, signal.SIGCONT)
        wait_until(lambda: cluster.get("/health/ready")[0] == 200)
        wait_until(lambda: cluster.metric("pregate_unanswered_experts") == 0)


def test_a_restarted_coordinator_finds_its_workers_again(model, tmp_path):
    with cluster_of(model, tmp_path, 1) as cluster:
        pids = {number: process.pid for number, process in cluster.workers.items()}
        os.killpg(cluster.process.pid, signal.SIGKILL)
        cluster.process.wait()
        began = time.monotonic()
        cluster.start_coordinator()
        cluster.wait_ready()
        print(f"ready again after {time.monotonic() - began:.1f} s")
        assert cluster.post("/v1/completions", {"prompt": "a", "max_tokens": 4})[0] == 200
        for number, process in cluster.workers.items():
            assert process.poll() is None and process.pid == pids[number]
        said = cluster.log("coordinator")
        placed = re.findall(r"the first placement\): (\d+) replicas to load", said)
        assert len(placed) == 2 and int(placed[0]) > 0 and placed[1] == "0", placed


def refused(cluster, arguments, reason):
    command = [BINARY, "worker", "--join", cluster.listen, "--threads", "1", *FORMAT, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0, ended.stderr
    assert reason in ended.stderr, ended.stderr


def test_strangers_are_refused_with_a_reason(model, tmp_path):
    other = make_model(tmp_path / "other", seed=8)
    wrong = tmp_path / "wrong"
    wrong.write_text("not the secret at all")
    wrong.chmod(0o600)
    with cluster_of(model, tmp_path, 1, workers=1) as cluster:
        base = ["--model", model, "--name", "stranger"]
        refused(cluster, [*base, "--secret-file", wrong], "secret")
        base[1] = other
        refused(cluster, [*base, "--secret-file", cluster.secret], "checkpoint")
        assert cluster.metric("pregate_join_refusals_total", reason="wrong_secret") >= 1
        assert cluster.metric("pregate_join_refusals_total", reason="other_model") >= 1
        # A second one of a name that is alive waits, and says why.
        twin = cluster.spawn(
            cluster.hosts[0],
            ["worker", "--model", model, "--join", cluster.listen, "--name", "worker-1"]
            + ["--secret-file", cluster.secret, "--threads", "1", *FORMAT],
            "twin.log",
        )
        wait_until(
            lambda: cluster.metric("pregate_join_refusals_total", reason="name_taken") >= 1
        )
        wait_until(lambda: "worker-1 (" in cluster.log("twin"))
        os.killpg(twin.pid, signal.SIGKILL)
        twin.wait()
        garbage(cluster)
        assert cluster.post("/v1/completions", {"prompt": "a", "max_tokens": 4})[0] == 200


def garbage(cluster):
    """Bytes that are no hello, and a flood of connections that say nothing."""
    host, port = cluster.listen.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as stranger:
        stranger.sendall(os.urandom(4096))
    idle = [socket.create_connection((host, int(port))) for _ in range(200)]
    for stranger in idle:
        stranger.close()
