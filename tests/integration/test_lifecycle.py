"""Start, stop and death of processes, seen from outside."""

import json
import os
import re
import signal
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from cluster import BINARY, Cluster, make_model, wait_until

# Longer than it takes to notice that a request runs and to act on it: a token takes 0.2 ms.
NUM_TOKENS = 1500


def long_request(cluster, into):
    body = {"prompt": "once upon a time", "max_tokens": NUM_TOKENS}
    body |= {"ignore_eos": True, "temperature": 0}
    into.append(cluster.post("/v1/completions", body))


def start_long_request(cluster):
    """Returns its thread and where its answer will be, once it runs."""
    answers = []
    client = threading.Thread(target=long_request, args=(cluster, answers))
    client.start()
    while "num_requests_running" not in (text := cluster.get("/metrics")[1]) or (
        metric(text, "vllm:num_requests_running") == 0 and not answers
    ):
        time.sleep(0.005)
    return client, answers


@pytest.mark.parametrize("ranks", [1, 3])
def test_sigterm_lets_running_requests_finish_and_exits_0(model, ranks):
    with Cluster(model, ranks=ranks) as cluster:
        client, answers = start_long_request(cluster)
        assert cluster.stop() == 0
        client.join(timeout=30)
        status, answer = answers[0]
        assert status == 200
        assert answer["usage"]["completion_tokens"] == NUM_TOKENS


def metric(text, name):
    values = [
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.split("{")[0].split(" ")[0] == name
    ]
    return sum(values)


def up(cluster, worker):
    wanted = f'pregate_worker_up{{worker="{worker}"}}'
    for line in cluster.get("/metrics")[1].splitlines():
        if line.startswith(wanted):
            return line.split()[-1] == "1"
    raise AssertionError(f"no {wanted}")


def kill_worker_while_a_request_runs(cluster, number):
    """Returns the thread of the request and where its answer will be. The worker is stopped before,
    so that the request waits for it, be this process ever so late."""
    pid = cluster.pids()[number]
    os.kill(pid, signal.SIGSTOP)
    client, answers = start_long_request(cluster)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not up(cluster, f"worker-{number}"))
    return client, answers


def test_a_dead_rank_is_noticed_before_it_is_given_up_and_the_others_take_its_experts(model):
    options = ["--dead-after", "5m"]
    with Cluster(model, ranks=3, options=options, mpi_options=["--enable-recovery"]) as cluster:
        client, answers = kill_worker_while_a_request_runs(cluster, 2)
        body = {"prompt": "a", "max_tokens": 2}
        assert cluster.post("/v1/completions", body)[0] == 200
        client.join(timeout=30)
        status, answer = answers[0]
        assert status == 200
        assert answer["usage"]["completion_tokens"] == NUM_TOKENS
        wait_until(lambda: up(cluster, "worker-1"))
        assert not up(cluster, "worker-2")
        wait_until(lambda: cluster.get("/health/ready")[0] == 200)
        assert cluster.stop() == 0


def test_a_dead_rank_that_nobody_can_stand_in_for_is_named_and_nothing_hangs(model):
    options = ["--expert-wait", "2s", "--dead-after", "3s"]
    with Cluster(model, ranks=2, options=options, mpi_options=["--enable-recovery"]) as cluster:
        client, answers = kill_worker_while_a_request_runs(cluster, 1)
        status, answer = cluster.post("/v1/completions", {"prompt": "a", "max_tokens": 2})
        assert status == 503
        assert "worker-1" in answer["error"]["message"]
        client.join(timeout=30)
        assert answers[0][0] == 503
        assert "worker-1" in answers[0][1]["error"]["message"]
        wait_until(lambda: cluster.get("/health/ready")[0] != 200)
        assert cluster.get("/health/live")[0] == 200
        assert cluster.stop() == 0


def test_a_disconnected_client_frees_its_place_at_once(model):
    with Cluster(model, options=["--max-num-seqs", "1"]) as cluster:
        # More than any machine generates before the server sees that the client has left.
        body = {"prompt": "a", "n": 128, "max_tokens": 2000, "ignore_eos": True, "stream": True}
        request = urllib.request.Request(
            cluster.url + "/v1/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        stream = urllib.request.urlopen(request, timeout=10)
        stream.readline()
        stream.close()
        aborted = r'vllm:request_success_total\{.*finished_reason="abort".*\} 1\n'

        def is_free():
            text = cluster.get("/metrics")[1]
            gauges = ("vllm:num_requests_running", "vllm:num_requests_waiting")
            return not any(metric(text, name) for name in gauges) and re.search(aborted, text)

        wait_until(is_free)


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # user and system


def test_waiting_ranks_leave_the_cores_to_others(model):
    with Cluster(model, ranks=3) as cluster:
        assert cluster.post("/v1/completions", {"prompt": "a", "max_tokens": 4})[0] == 200
        time.sleep(0.5)
        began = time.monotonic()
        before = {pid: cpu_seconds(pid) for pid in cluster.pids()}
        time.sleep(2)
        assert len(before) == 3
        used = [cpu_seconds(pid) - before[pid] for pid in before]
        assert max(used) < 0.1 * (time.monotonic() - began)


def test_a_missing_model_ends_with_a_clear_error(tmp_path):
    import subprocess

    command = [BINARY, "serve", "--model", tmp_path / "nothing", "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode != 0
    assert str(tmp_path / "nothing") in ended.stderr


def test_generation_config_gives_what_requests_leave_out(tmp_path):
    model = make_model(tmp_path / "model")
    (model / "generation_config.json").write_text('{"temperature": 0.0, "eos_token_id": 0}')
    body = {"prompt": "once upon a time", "max_tokens": 40, "ignore_eos": True}

    def text_of(cluster, **fields):
        return cluster.post("/v1/completions", body | fields)[1]["choices"][0]["text"]

    with Cluster(model) as cluster:
        greedy = text_of(cluster, temperature=0)
        assert text_of(cluster) == greedy
        assert text_of(cluster, temperature=1.5, seed=1) != greedy
