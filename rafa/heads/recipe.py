"""The recipe of the suite's own weights: a small network, trained on synthetic heads alone.  It is not the paper's.

It differs in all that `rafa.train.recipe` takes from the authors: strong augmentation, the landmarks of the drawn
heads as an auxiliary output, absolute errors, Muon with a warm-up and a cosine, and averaged weights.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from data_loaders import Batch, batches_per_epoch, in_parallel, listed_image, output_targets, shuffled
from rafa.datasets.lists import Listed
from rafa.heads.augmentation import augmented
from rafa.heads.dataset import LANDMARKS
from rafa.net.backend import keras, layers
from rafa.net.weights import save_half
from rafa.pose import AXES
from rafa.script import InputError
from rafa.train.devices import ONE_DEVICE, Devices
from rafa.train.muon import Muon
from rafa.train.recipe import Losses, compile_with
from rafa.train.run_folder import RunFolder
from rafa_model import build_rafa_net, load_rafa_net

WARM_UP_STEPS = 500
GRADIENT_NORM = 5.0  # larger gradients are scaled down to it
AVERAGING = 0.999  # momentum of the averaged weights
LANDMARK_WEIGHT = 2.0  # beside 1 for each angle in radians; half a crop = 1
LANDMARK_FILTERS = 96


class HeadsRecipe:
    """What `train_rafa-net.py --synthetic full` trains, and how."""

    losses: Losses = dict.fromkeys(AXES, (1.0, "absolute")) | {"landmarks": (LANDMARK_WEIGHT, "absolute")}

    def __init__(self, options: argparse.Namespace, train: Listed, devices: Devices = ONE_DEVICE) -> None:
        self.options, self.train, self.devices = options, train, devices
        self.landmarks = landmarks_of(train)
        steps = batches_per_epoch(len(train.records), options.batch_size) * options.epochs
        warm_up = min(WARM_UP_STEPS, steps // 4)
        self.schedule = keras.optimizers.schedules.CosineDecay(
            0.0, max(1, steps - warm_up), warmup_target=options.learning_rate, warmup_steps=warm_up
        )

    def build(self, restored: bool = False) -> keras.Model:
        """The network with its auxiliary output, compiled; the optimizer holds the averaged weights."""
        model = with_landmarks(build_rafa_net(self.options.backbone, None))
        norm = GRADIENT_NORM / self.devices.count  # see `Devices.summed`
        optimizer = Muon(0.0, global_clipnorm=norm, use_ema=True, ema_momentum=AVERAGING)
        compile_with(model, optimizer, self.options.precision)
        return model

    def learning_rate(self, step: int) -> float:
        """A warm-up, then a cosine down to 0 at the end of the run."""
        return float(self.schedule(step))

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Augmented crops, the same for any number of workers; targets hold `landmarks` (b, 3, 68) too."""
        options, listed, records = self.options, self.train, self.train.records
        batch_size, shard = min(options.batch_size, len(records)), self.devices.machine
        order, _, rng = shuffled(len(records), batch_size, options.seed, epoch)
        seeds = rng.integers(2**62, size=len(order))
        jobs = zip(shard.of(order, batch_size), shard.of(seeds, batch_size), strict=True)

        def load(job: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            index, seed = job
            rng, record = np.random.default_rng(seed), records[index]
            other = partial(listed_image, listed, records[rng.integers(len(records))])  # few samples decode it
            image, box = listed_image(listed, record), (record["row"], record["column"], record["size"])
            return augmented(image, box, record["angles"], self.landmarks[index], other, options.train_margin, rng)

        samples = in_parallel(load, jobs, options.workers, 4 * batch_size)
        while batch := list(islice(samples, batch_size // shard.count)):
            crops, angles, points = zip(*batch, strict=True)
            yield np.stack(crops), output_targets(np.stack(angles)) | {"landmarks": np.stack(points).astype("float32")}

    def finish(self, model: keras.Model, run: RunFolder) -> tuple[keras.Model, Path]:
        """Write the averaged weights, without landmarks and in half precision."""
        model.optimizer.finalize_variable_values(model.trainable_variables)
        path = run.path / "network.weights.h5"
        save_half(without_landmarks(model), path)
        return load_rafa_net(path), path


def landmarks_of(listed: Listed) -> np.ndarray:
    """(n, 3, 68) landmarks of the records of synthetic training heads, in pixels; see `rafa.heads.dataset`.

    Raises:
        InputError: no file of landmarks, or not one of these lists.
    """
    path = listed.data_dir / "lists" / LANDMARKS
    try:
        landmarks = np.load(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}; draw the synthetic heads again") from error
    if landmarks.shape != (len(listed.usable), 3, 68):
        raise InputError(f"{path} is for {len(landmarks)} images, the lists have {len(listed.usable)}: draw them again")
    places = {name: place for place, name in enumerate(listed.usable)}
    return landmarks[[places[name] for name in listed.records["path"]]]


def with_landmarks(network: keras.Model) -> keras.Model:
    """The network with a fourth output for training, `landmarks` (b, 3, 68), taken from the end of its trunk."""
    stages = [layer.name for layer in network.layers if layer.name.startswith("conv") and layer.name.endswith("_out")]
    features = network.get_layer(stages[-1]).output  # (b, 14, 14, c)
    convolution = layers.Conv2D(LANDMARK_FILTERS, 3, 2, "same", activation="relu", name="landmarks_conv")
    x = layers.Flatten(name="landmarks_flat")(convolution(features))
    x = layers.Dense(3 * 68, dtype="float32", name="landmarks_dense")(x)
    outputs = {axis: network.get_layer(axis).output for axis in AXES}
    outputs["landmarks"] = layers.Reshape((3, 68), dtype="float32", name="landmarks")(x)
    return keras.Model(network.input, outputs, name=f"{network.name}_with_landmarks")


def without_landmarks(model: keras.Model) -> keras.Model:
    """The network alone, which shares its weights with the model."""
    name: Any = model.name.removesuffix("_with_landmarks")
    return keras.Model(model.input, {axis: model.get_layer(axis).output for axis in AXES}, name=name)
