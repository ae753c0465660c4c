"""Fixtures that several test files share."""

import importlib.util

import cv2
import numpy as np
import pytest
from helpers.lists import write_lists

from rafa.datasets import rows
from rafa.datasets.sets import DATASETS
from rafa.files import ROOT


@pytest.fixture(scope="session")
def model():
    """A tiny RAFA-Net with random weights."""
    from rafa.net.backend import keras
    from rafa_model import build_rafa_net

    keras.utils.set_random_seed(3)
    return build_rafa_net("tiny", weights=None)


@pytest.fixture(scope="session")
def weights(model, tmp_path_factory) -> str:
    """The file of `model`."""
    path = tmp_path_factory.mktemp("weights") / "tiny.keras"
    model.save(path)
    return str(path)


@pytest.fixture(scope="session")
def training_script():
    """`train_rafa-net.py` as a module."""
    spec = importlib.util.spec_from_file_location("train_rafa_net", ROOT / "train_rafa-net.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def loaded(model, monkeypatch):
    """`load_rafa_net` gives `model`, whatever file it is asked for, without building it again."""
    monkeypatch.setattr("rafa_model.load_rafa_net", lambda path: model)
    monkeypatch.setattr(type(model), "run_eagerly", False)  # which would outlast a test
    return model


@pytest.fixture
def drawn(monkeypatch):
    """The figures that `rafa.score.plots` would have written."""
    figures = []
    monkeypatch.setattr("rafa.score.plots.save", lambda figure, path: figures.append(figure))
    return figures


@pytest.fixture
def publish(monkeypatch):
    """Let a dataset's lists be recognised as the published ones."""

    def publish(folder, name):
        for file in (DATASETS[name].crop_list, DATASETS[name].angle_list):
            monkeypatch.setitem(rows.PUBLISHED_BLOBS, file, rows.blob_id((folder / file).read_bytes()))

    return publish


@pytest.fixture
def folder(tmp_path):
    """A data folder with seven images of noise and their lists."""
    rng = np.random.default_rng(0)
    boxes, angles = [], []
    for index in range(7):
        name = f"AFLW2000/image{index:05d}.png"
        (tmp_path / "AFLW2000").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 256, (90, 100, 3), np.uint8))
        boxes.append(f"./{name}\t{10 + index} {5 * index} 60 60 ")
        angles.append(f"./{name}\t{index / 10}\t{-index / 20}\t{index / 40}\t90\t90\t90")
    write_lists(tmp_path, boxes, angles)
    return tmp_path
