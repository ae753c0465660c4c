"""The recipe of the suite's own weights: its network, its batches, its run from the first head to the shipped file."""

import json
import runpy
from argparse import Namespace
from dataclasses import replace
from itertools import islice
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_loaders import listed_image
from rafa.datasets.lists import limited, load_dataset
from rafa.heads import recipe as synthetic_recipe
from rafa.heads.dataset import LANDMARKS, write_dataset
from rafa.heads.recipe import HeadsRecipe, landmarks_of, with_landmarks, without_landmarks
from rafa.net.backend import keras
from rafa.net.weights import save_half
from rafa.pose import AXES
from rafa.script import InputError
from rafa.train.recipe import training_step
from rafa.train.run_folder import RunFolder
from rafa_model import build_rafa_net, load_rafa_net

SCRIPT = str(Path(__file__).parents[2] / "train_rafa-net.py")
HEADS = {"train": 6, "test": 2, "per_person": 2}
OPTIONS = Namespace(backbone="tiny", batch_size=3, epochs=2, learning_rate=1e-3, train_margin=0.5, seed=0, workers=2)


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    write_dataset(folder, **HEADS, workers=1)
    return folder


@pytest.fixture(scope="module")
def train(heads):
    return load_dataset("synthetic-train", heads)


def batches(train, first_epoch=0, count=4, **options):
    recipe = HeadsRecipe(Namespace(**{**vars(OPTIONS), **options}), train)
    return list(islice(recipe.batches(first_epoch), count))


def same(one, other):
    return all(
        (a[0] == b[0]).all() and all((a[1][k] == b[1][k]).all() for k in a[1]) for a, b in zip(one, other, strict=True)
    )


def test_batches_are_the_same_for_any_number_of_workers_and_go_on_at_any_epoch(train):
    whole = batches(train)
    assert [crops.shape for crops, _ in whole] == [(3, 224, 224, 3)] * 4
    assert whole[0][1]["landmarks"].shape == (3, 3, 68) and whole[0][1]["yaw"].shape == (3, 1)
    assert same(whole, batches(train, workers=1)) and same(whole[2:], batches(train, first_epoch=1, count=2))
    assert not same(whole[:1], batches(train, count=1, seed=1))


def test_the_other_image_is_read_only_where_it_covers_the_face(train, monkeypatch):
    read = []
    monkeypatch.setattr(synthetic_recipe, "listed_image", lambda *record: read.append(1) or listed_image(*record))
    found = batches(train, count=20, workers=1)
    samples = 3 * (len(found) + 4)  # and those in advance
    assert 60 < len(read) < 1.5 * samples  # about 1.2 for each


def test_landmarks_are_found_by_path(train, heads):
    every = np.load(heads / "lists" / LANDMARKS)
    assert (landmarks_of(train) == every).all()
    assert (landmarks_of(limited(train, 2)) == every[[0, 5]]).all()


def test_landmarks_of_other_lists_are_refused(tmp_path, train):
    with pytest.raises(InputError, match=r"landmarks\.npy cannot be read"):
        landmarks_of(replace(train, data_dir=tmp_path))
    (tmp_path / "lists").mkdir()
    np.save(tmp_path / "lists" / LANDMARKS, np.zeros((5, 3, 68)))
    with pytest.raises(InputError, match="is for 5 images, the lists have 6"):
        landmarks_of(replace(train, data_dir=tmp_path))


@pytest.mark.slow
def test_the_auxiliary_output_is_trained_and_leaves_no_trace(train, tmp_path):
    keras.utils.set_random_seed(0)
    recipe = HeadsRecipe(OPTIONS, train)
    model = recipe.build()
    step = training_step(model, recipe.losses)
    (batch,) = batches(train, count=1)
    before = [weight.numpy() for weight in model.trainable_variables]
    step(*batch)  # at a learning rate of 0
    losses = step(*batch)
    assert set(losses) == {*AXES, "landmarks"}
    still = [w.path for w, old in zip(model.trainable_variables, before, strict=True) if (w.numpy() == old).all()]
    assert not [name for name in still if "self_attention" not in name and "conv" in name]

    model.optimizer.finalize_variable_values(model.trainable_variables)
    drawn = without_landmarks(model).predict_on_batch(batch[0])
    network, path = recipe.finish(model, RunFolder(tmp_path))
    assert network.name == "rafa_net_tiny" and set(network.output) == set(AXES)
    assert network.count_params() == build_rafa_net("tiny", None).count_params()
    answers = network.predict_on_batch(batch[0])
    for axis, stretch, shift in (("yaw", 1.1, 0), ("pitch", 1, np.radians(-4.5)), ("roll", 1, 0)):
        np.testing.assert_allclose(
            answers[axis], stretch * drawn[axis] + shift, atol=0.03
        )  # half precision, in radians
    assert path.name == "network.weights.h5"


def test_a_file_in_half_precision_has_half_the_size_and_answers_alike(tmp_path):
    network = build_rafa_net("tiny", None)
    network.save_weights(tmp_path / "whole.weights.h5")
    save_half(network, tmp_path / "half.weights.h5")
    sizes = [(tmp_path / f"{name}.weights.h5").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.58 * sizes[0]
    with h5py.File(tmp_path / "half.weights.h5") as file:
        assert file["layers/conv2d/vars/0"].dtype == np.float16 and file["layers/conv2d/vars/1"].dtype == np.float32
    crops = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    one, other = (each.predict_on_batch(crops) for each in (network, load_rafa_net(tmp_path / "half.weights.h5")))
    for axis in AXES:
        np.testing.assert_allclose(one[axis], other[axis], rtol=5e-3, atol=5e-3)


def test_the_learning_rate_rises_and_falls_to_nothing(train):
    model = HeadsRecipe(Namespace(**{**vars(OPTIONS), "epochs": 200}), train).build()
    rates = [float(model.optimizer._learning_rate(step)) for step in (0, 50, 100, 250, 399)]
    assert rates[0] == 0 and rates[2] == pytest.approx(1e-3) and rates[1] == pytest.approx(5e-4)
    assert rates[3] == pytest.approx(5e-4) and rates[4] < 1e-6


def test_the_landmarks_come_from_the_trunk():
    model = with_landmarks(build_rafa_net("small", None))
    assert model.get_layer("landmarks_conv").input.shape == (None, 14, 14, 96)


@pytest.mark.slow
def test_an_interrupted_full_run_resumes_to_the_very_weights_of_an_uninterrupted_one(tmp_path, monkeypatch, capsys):
    script = runpy.run_path(SCRIPT)["main"]
    monkeypatch.setitem(script.__globals__, "FULL_HEADS", HEADS)
    command = ["--synthetic", "full", "--backbone", "tiny", "--epochs", "2", "--batch-size", "3", "--workers", "1"]
    command += ["--data-dir", str(tmp_path / "heads"), "--run-dir"]
    script([*command, str(tmp_path / "whole")])
    assert "landmarks" in capsys.readouterr().out

    save = RunFolder.save

    def stop(self, model, epoch, last):
        save(self, model, epoch, last=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        script([*command, str(tmp_path / "cut")])
    monkeypatch.undo()
    monkeypatch.setitem(script.__globals__, "FULL_HEADS", HEADS)
    script(["--run-dir", str(tmp_path / "cut"), "--resume"])
    whole, cut = ((tmp_path / name / "network.weights.h5").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    result = json.loads((tmp_path / "whole/result.json").read_text())
    assert "network.weights.h5" in json.dumps(result)


def test_options_without_effect_on_the_full_recipe_are_refused(capsys):
    script = runpy.run_path(SCRIPT)["main"]
    for more, message in (
        (["--decay-every", "3"], "--decay-every has no effect"),
        (["--cache", "3"], "--cache has no effect"),
        (["--weights", "imagenet"], "random weights"),
        (["--train-lists", "a", "b"], "synthetic heads alone"),
    ):
        with pytest.raises(SystemExit):
            script(["--synthetic", "full", *more])
        assert message in capsys.readouterr().err
