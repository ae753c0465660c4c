"""The paper's recipe, and the training step that every recipe shares."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_loaders import Batch, KeptImages, batches_per_epoch, training_batches
from rafa.datasets.lists import Listed
from rafa.net.backend import keras, tf
from rafa.net.keras224 import RMSprop, count_steps
from rafa.pose import AXES
from rafa.train.devices import ONE_DEVICE, Devices
from rafa.train.run_folder import DivergedError, RunFolder
from rafa_model import build_rafa_net

# What an output of the network costs: its weight, and "squared" or "absolute" errors, whose mean is taken.
Losses = dict[str, tuple[float, str]]
PAPER_LOSSES: Losses = dict.fromkeys(AXES, (1.0, "squared"))


class PaperRecipe:
    """What the released code runs, with the options of `train_rafa-net.py`; see doc/differences.md.

    Another recipe has the same methods, as that of the suite's own weights in `rafa.heads.recipe`.
    """

    losses = PAPER_LOSSES

    def __init__(self, options: argparse.Namespace, train: Listed, devices: Devices = ONE_DEVICE) -> None:
        self.options, self.devices = options, devices
        self.steps = batches_per_epoch(len(train.records), options.batch_size)
        self.images = KeptImages(train, options.train_margin, options.cache * 1e9)

    def build(self, restored: bool = False) -> Any:
        """The compiled network; without weights to start from where a checkpoint is to be loaded into it."""
        weights = None if restored or self.options.weights == "none" else self.options.weights
        model = build_rafa_net(self.options.backbone, weights)
        compile_rafa_net(model, self.options.learning_rate, self.options.precision)
        return model

    def learning_rate(self, step: int) -> float:
        """That of a step, counted from 0 since the start: the base, divided by ten every `--decay-every` epochs."""
        decay_every, epoch = self.options.decay_every, step // self.steps
        return self.options.learning_rate * (0.1 ** (epoch // decay_every) if decay_every else 1)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Crops at random margins, and the angles, of an epoch, counted from 0: this machine's part of each batch."""
        options = self.options
        return training_batches(
            self.images, options.batch_size, options.seed, epoch, options.workers, self.devices.machine
        )

    def finish(self, model: Any, run: RunFolder) -> tuple[Any, Path]:
        """The network to be scored after the last epoch, and its file: as it was trained."""
        return to_score(model, self.options, self.devices), run.checkpoint


# --- Network and optimizer --------------------------------------------------------------------------------------------
def compile_rafa_net(model: Any, learning_rate: float = 1e-3, precision: str = "float32") -> None:
    """Give a network the authors' optimizer, RMSprop as Keras 2.2.4 computed it; see `compile_with`."""
    compile_with(model, RMSprop(learning_rate), precision)


def compile_with(model: Any, optimizer: Any, precision: str) -> None:
    """Give a network an optimizer, built, whose steps batch normalisation counts.

    In float16 the loss is scaled, as Keras does it.
    """
    if precision == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(optimizer, jit_compile=False)
    optimizer.build(model.trainable_variables)
    count_steps(model, optimizer)


def to_score(model: Any, options: argparse.Namespace, devices: Devices) -> Any:
    """The network in single precision and on one device: a copy, or the model itself where it is that."""
    if not devices.strategy and options.precision == "float32":
        return model
    network = build_rafa_net(options.backbone, None)
    for layer in network.layers:
        layer.set_weights(model.get_layer(layer.name).get_weights())
    return network


# --- One step ---------------------------------------------------------------------------------------------------------
def training_step(
    model: Any, losses: Losses = PAPER_LOSSES, devices: Devices = ONE_DEVICE, xla: bool = False
) -> Callable[..., dict[str, float]]:
    """One update of a compiled network, as a function of a batch, which the devices share.

    The function takes RGB crops (b, 224, 224, 3), 0...255, and targets, {axis: (b, 1)} in radians; it returns the
    unweighted losses {axis: number} from before the update.

    Args:
        model: built in `devices.scope()`.
        losses: its outputs' weights and errors.
        devices: which share the batch; a machine gives the function its part of it.
        xla: compile the step with XLA; on one device only.

    Raises:
        DivergedError: from the function, for a loss that is not finite.
    """
    errors = {"squared": tf.square, "absolute": tf.abs}
    dtype = model.variable_dtype  # that of losses; float32 with half precision too
    optimizer = model.optimizer
    scaled = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)

    def update(crops: Any, targets: dict[str, Any]) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            predicted = model(tf.cast(crops, dtype), training=True)
            means = {
                name: tf.reduce_mean(errors[kind](tf.cast(predicted[name], dtype) - targets[name])) / devices.count
                for name, (_, kind) in losses.items()
            }
            loss = tf.add_n([weight * means[name] for name, (weight, _) in losses.items()])
            loss = optimizer.scale_loss(loss)
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        if scaled or optimizer.global_clipnorm:  # all devices must see the same overflow, and the same norm
            gradients = devices.summed(gradients)
        optimizer.apply(gradients, variables)
        return means

    compiled = devices.step(update, xla)

    def step(crops: np.ndarray, targets: dict[str, np.ndarray]) -> dict[str, float]:
        numbers = {name: float(loss) for name, loss in compiled(crops, targets).items()}
        if not np.isfinite(list(numbers.values())).all():
            told = ", ".join(f"{name} {number:g}" for name, number in numbers.items())
            raise DivergedError(f"the training has diverged: losses {told}; start again with a lower --learning-rate")
        return numbers

    return step


def mean_losses(steps: list[dict[str, float]], losses: Losses) -> dict[str, float]:
    """The mean losses of an epoch's steps, and their weighted sum first."""
    means = {name: float(np.mean([step[name] for step in steps])) for name in losses}
    total = sum(weight * means[name] for name, (weight, _) in losses.items())
    return {"loss": total} | {f"{name}_loss": mean for name, mean in means.items()}
