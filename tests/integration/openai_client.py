"""Runs the client's tests (api_client/) against a server of ours."""

import os
import subprocess
import sys
from pathlib import Path

from cluster import Cluster, make_model

CLIENT_TESTS = Path(__file__).parent / "api_client" / "test_openai_client.py"


def run_client_tests(directory, ranks):
    model = make_model(directory / "model")
    with Cluster(model, ranks=ranks) as cluster:
        ended = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", CLIENT_TESTS],
            env=os.environ | {"PREGATE_BASE_URL": cluster.url},
            timeout=540,
        )
        assert ended.returncode == 0
        assert cluster.stop() == 0
