"""What tests of clusters share: the model, what is asked of it, and the undisturbed answers."""

import pytest
from cluster import make_model
from elastic import prompts, undisturbed


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("checkpoint") / "model")


@pytest.fixture(scope="module")
def asked():
    return prompts(requests_per_stream=5)


@pytest.fixture(scope="module")
def expected(model, asked, tmp_path_factory):
    return undisturbed(model, tmp_path_factory.mktemp("calm"), asked)
