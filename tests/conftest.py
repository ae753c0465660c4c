"""Fixtures that several test files share."""

import pytest


@pytest.fixture(scope="session")
def model():
    """A tiny RAFA-Net with random weights."""
    from rafa_model import build_rafa_net
    from util.backend import keras

    keras.utils.set_random_seed(3)
    return build_rafa_net("tiny", weights=None)


@pytest.fixture(scope="session")
def weights(model, tmp_path_factory) -> str:
    """The file of `model`."""
    path = tmp_path_factory.mktemp("weights") / "tiny.keras"
    model.save(path)
    return str(path)


@pytest.fixture
def loaded(model, monkeypatch):
    """`load_rafa_net` gives `model`, whatever file it is asked for, without building it again."""
    monkeypatch.setattr("rafa_model.load_rafa_net", lambda path: model)
    return model
