"""What networks do to a worker under load: no request fails, no token differs. Silence, too."""

import contextlib
import os
import statistics
import time

import network
import pytest
from cluster import wait_until
from elastic import cluster_of, report, unnoticed

CUT_SECONDS = 3
LOSSY_SECONDS = 6
VICTIM = 2
IDLE_SECONDS = float(os.environ.get("PREGATE_TEST_IDLE_SECONDS", "20"))
# In the coordinator's log, for each that joins or comes back.
JOINED = " rows/s"

reason = network.why_not()
needs_network = pytest.mark.skipif(bool(reason), reason=reason)


@pytest.fixture
def hosts():
    with network.Network() as made, made.at_the_coordinator():
        yield made


def all_ready(cluster):
    return cluster.metric("pregate_workers", state="ready") == 3


def disturbed(cluster, load, name, begin, end, seconds):
    """What `begin` does lasts for so long; then the cluster is as before."""
    moments = [(name, time.monotonic())]
    begin()
    time.sleep(seconds)
    num_dropped = end()
    moments.append((f"after {name}", time.monotonic()))
    wait_until(lambda: all_ready(cluster))
    print(f"{name}: ready {time.monotonic() - moments[1][1]:.1f} s afterwards")
    if num_dropped is not None:
        print(f"{name}: {num_dropped} packets dropped")
        assert num_dropped > 0
    time.sleep(1)
    report("2 replicas", load, moments)


@contextlib.contextmanager
def loaded_cluster(hosts, model, directory, asked, expected):
    with cluster_of(model, directory, 2, hosts=hosts.hosts) as cluster:
        with unnoticed(cluster, asked, expected) as load:
            time.sleep(1)
            yield cluster, load
        assert cluster.stop() == 0


@needs_network
def test_a_link_is_down_for_three_seconds(hosts, model, tmp_path, asked, expected):
    with loaded_cluster(hosts, model, tmp_path, asked, expected) as (cluster, load):
        disturbed(
            cluster,
            load,
            "link down",
            lambda: hosts.set_link(VICTIM, False),
            lambda: hosts.set_link(VICTIM, True),
            CUT_SECONDS,
        )


@needs_network
def test_one_packet_in_twenty_is_lost(hosts, model, tmp_path, asked, expected):
    def begin():
        hosts.drop_from(VICTIM, 5)
        hosts.drop_to(VICTIM, 5)

    with loaded_cluster(hosts, model, tmp_path, asked, expected) as (cluster, load):
        disturbed(cluster, load, "5 % loss", begin, hosts.heal, LOSSY_SECONDS)


@needs_network
@pytest.mark.parametrize("direction", ["from", "to"])
def test_a_worker_is_heard_or_hears_no_more(hosts, model, tmp_path, asked, expected, direction):
    cut = {"from": hosts.drop_from, "to": hosts.drop_to}[direction]
    with loaded_cluster(hosts, model, tmp_path, asked, expected) as (cluster, load):
        name = f"nothing {direction} it"
        disturbed(cluster, load, name, lambda: cut(VICTIM), hosts.heal, CUT_SECONDS)


def test_after_idling_a_request_is_answered_as_usual(model, tmp_path):
    """PREGATE_TEST_IDLE_SECONDS=600 for the long one."""
    # Longer than a busy machine holds a worker up, and less than it idles.
    more = ["--suspect-after", "8s"]
    with cluster_of(model, tmp_path, 2, more=more) as cluster:
        ask = {"prompt": "once upon a time", "max_tokens": 1, "temperature": 0}

        def first_token():
            began = time.monotonic()
            status, answer = cluster.post("/v1/completions", ask)
            assert status == 200, answer
            return time.monotonic() - began

        usual = statistics.median(first_token() for _ in range(20))
        joins = cluster.log("coordinator").count(JOINED)
        assert joins == 3

        def is_as_usual_after_idling():
            time.sleep(IDLE_SECONDS)
            late = first_token()
            print(
                f"first token after {IDLE_SECONDS:.0f} s: {late * 1000:.1f} ms,"
                f" before: {usual * 1000:.1f} ms"
            )
            return late < usual + 0.5

        # A busy machine may be late itself, but not time after time.
        assert any(is_as_usual_after_idling() for _ in range(3))
        assert all_ready(cluster)
        assert cluster.log("coordinator").count(JOINED) == joins, "somebody joined again"
        assert "suspect" not in cluster.log("coordinator")
