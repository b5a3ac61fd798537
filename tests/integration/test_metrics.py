"""monitoring/METRICS.md against what running processes answer, in both directions."""

import urllib.request
from pathlib import Path

from cluster import Cluster, free_port, make_model, settled

PAGE = Path(__file__).parents[2] / "monitoring" / "METRICS.md"


def documented(role):
    """Types by name of the metrics whose role column names `role`."""
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    return {row[1].strip(" `"): row[2].strip() for row in rows if role in row[5]}


def reported(text):
    lines = [line.split() for line in text.splitlines() if line.startswith("# TYPE ")]
    return {words[2]: words[3] for words in lines}


def scrape(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return answer.read().decode()


def test_processes_report_exactly_what_the_page_lists(tmp_path):
    model = make_model(tmp_path / "model")
    worker_port = free_port()
    options = ["--per-expert-metrics", "--lookahead", "auto", "--metrics-port", str(worker_port)]
    with Cluster(model, ranks=2, options=options) as cluster:
        status, _ = cluster.post("/v1/completions", {"prompt": "a", "max_tokens": 4})
        assert status == 200
        for port, role in ((cluster.port, "C"), (worker_port, "W")):
            # Some is counted only after the answer.
            found = settled(lambda port=port: reported(scrape(port)), documented(role))
            assert found == documented(role), role
