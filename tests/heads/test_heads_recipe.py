"""The recipe of the suite's own weights: its network, its batches, its run from the first head to the shipped file."""

import csv
import json
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
from helpers.runs import alike

from data_loaders import listed_image
from rafa.datasets.lists import limited, load_dataset
from rafa.heads import recipe as heads_recipe
from rafa.heads.dataset import LANDMARKS, write_dataset
from rafa.heads.recipe import HeadsRecipe, landmarks_of, with_landmarks, without_landmarks
from rafa.net.backend import keras
from rafa.pose import AXES
from rafa.script import InputError
from rafa.train.recipe import training_step
from rafa.train.run_folder import RunFolder
from rafa_model import build_rafa_net

HEADS = {"train": 6, "test": 2, "per_person": 2}
OPTIONS = Namespace(
    precision="float32",
    backbone="tiny",
    batch_size=3,
    epochs=2,
    learning_rate=1e-3,
    train_margin=0.5,
    seed=0,
    workers=2,
)


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    write_dataset(folder, **HEADS, workers=1)
    return folder


@pytest.fixture(scope="module")
def train(heads):
    return load_dataset("synthetic-train", heads)


def batches(train, epoch=0, **options):
    return list(HeadsRecipe(Namespace(**{**vars(OPTIONS), **options}), train).batches(epoch))


def same(one, other):
    return all(
        (a[0] == b[0]).all() and all((a[1][k] == b[1][k]).all() for k in a[1]) for a, b in zip(one, other, strict=True)
    )


def test_batches_are_the_same_for_any_number_of_workers_and_others_in_each_epoch(train):
    whole = batches(train)
    assert [crops.shape for crops, _ in whole] == [(3, 224, 224, 3)] * 2
    assert whole[0][1]["landmarks"].shape == (3, 3, 68) and whole[0][1]["yaw"].shape == (3, 1)
    assert same(whole, batches(train, workers=1))
    assert not same(whole, batches(train, epoch=1)) and not same(whole, batches(train, seed=1))


def test_the_other_image_is_read_only_where_it_covers_the_face(train, monkeypatch):
    read = []
    monkeypatch.setattr(heads_recipe, "listed_image", lambda *record: read.append(1) or listed_image(*record))
    samples = sum(len(crops) for epoch in range(10) for crops, _ in batches(train, epoch, workers=1))
    assert 60 == samples < len(read) < 1.5 * samples  # about 1.2 for each


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
    batch = batches(train)[0]
    before = [weight.numpy() for weight in model.trainable_variables]
    model.optimizer.learning_rate = recipe.learning_rate(1)
    losses = step(*batch)
    assert set(losses) == {*AXES, "landmarks"}
    still = [w.path for w, old in zip(model.trainable_variables, before, strict=True) if (w.numpy() == old).all()]
    assert not [name for name in still if "self_attention" not in name and "conv" in name]

    network, path = recipe.finish(model, RunFolder(tmp_path))
    assert network.name == "rafa_net_tiny" and set(network.output) == set(AXES)
    assert network.count_params() == build_rafa_net("tiny", None).count_params()
    answers, drawn = (each.predict_on_batch(batch[0]) for each in (network, without_landmarks(model)))
    for axis in AXES:
        np.testing.assert_allclose(answers[axis], drawn[axis], atol=0.03)  # half precision, in radians
    assert path.name == "network.weights.h5"


def test_the_network_of_a_run_has_the_averages_of_its_steps(train, tmp_path):
    recipe = HeadsRecipe(OPTIONS, train)
    model = recipe.build()
    step, batch, after = training_step(model, recipe.losses), batches(train)[0], []
    model.optimizer.learning_rate = 0.01
    for _ in range(2):
        step(*batch)
        after.append(model.get_layer("yaw").bias.numpy())
    network, _ = recipe.finish(model, RunFolder(tmp_path))
    first, second = after
    assert abs(second - first) > 1e-3
    np.testing.assert_allclose(network.get_layer("yaw").bias.numpy(), 0.999 * first + 0.001 * second, atol=1e-6)


def test_the_learning_rate_rises_and_falls_to_nothing(train):
    recipe = HeadsRecipe(Namespace(**{**vars(OPTIONS), "epochs": 200}), train)
    rates = [recipe.learning_rate(step) for step in (0, 50, 100, 250, 399)]
    assert rates[:4] == pytest.approx([0, 5e-4, 1e-3, 5e-4]) and rates[4] < 1e-6


def test_the_landmarks_come_from_the_trunk():
    model = with_landmarks(build_rafa_net("small", None))
    assert model.get_layer("landmarks_conv").input.shape == (None, 14, 14, 96)


@pytest.mark.slow
def test_an_interrupted_full_run_resumes_to_the_very_weights_of_an_uninterrupted_one(
    tmp_path, monkeypatch, training_script
):
    monkeypatch.setattr(training_script, "FULL_HEADS", HEADS)
    command = ["--synthetic", "full", "--backbone", "tiny", "--epochs", "2", "--batch-size", "3", "--workers", "1"]
    command += ["--data-dir", str(tmp_path / "heads"), "--run-dir"]
    training_script.main([*command, str(tmp_path / "whole")])

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(HeadsRecipe, "batches", lambda self, epoch: stop() if epoch else batches_of(self, epoch))
        training_script.main([*command, str(tmp_path / "cut")])
    training_script.main(["--run-dir", str(tmp_path / "cut"), "--resume"])
    whole, cut = ((tmp_path / name / "network.weights.h5").read_bytes() for name in ("whole", "cut"))
    assert whole == cut and alike(tmp_path / "whole", tmp_path / "cut")
    with (tmp_path / "cut/metrics.csv").open() as file:  # of steps 1 and 3 of four, after a warm-up of one
        rates = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert rates == pytest.approx([1e-3, 2.5e-4])
    result = json.loads((tmp_path / "whole/result.json").read_text())["results"][0]
    assert result["card"]["weights"]["file"].endswith("network.weights.h5")


batches_of = HeadsRecipe.batches


def stop():
    raise KeyboardInterrupt
