"""Parts of a training run: the recipe, the learning rate of an epoch, one training step, the expected time."""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from data_loaders import Batch, training_batches
from rafa.datasets.lists import Listed
from rafa.net.inference import predict_angles
from rafa.pose import AXES
from rafa.score import metrics
from rafa.score.predictions import predict_listed
from rafa.score.protocol import MAE_KEYS
from rafa.train.devices import ONE_DEVICE, Devices
from rafa.train.run_folder import DivergedError, RunFolder

LARGEST_ERROR = 100.0  # in the mean of a batch, in radians: 16 turns

# --- The recipe -------------------------------------------------------------------------------------------------------


def learning_rate_of(epoch: int, base: float, decay_every: int) -> float:
    """The learning rate of an epoch, counted from 0: the base, divided by ten every `decay_every` epochs (0: never)."""
    return base * 0.1 ** (epoch // decay_every) if decay_every else base


# What an output of the network costs: its weight, and "squared" or "absolute" errors, whose mean is taken.
Losses = dict[str, tuple[float, str]]
PAPER_LOSSES: Losses = dict.fromkeys(AXES, (1.0, "squared"))


def compile_rafa_net(model: Any, learning_rate: float = 1e-3) -> Any:
    """Give a network the authors' optimizer and losses: mean squared error in radians, loss weights 1, 1, 1.

    Returns:
        The optimizer, `rafa.net.keras224.RMSprop`, saved and loaded with the model; its steps are those that
        batch normalisation counts.
    """
    from rafa.net.keras224 import RMSprop, count_steps

    optimizer = RMSprop(learning_rate)
    model.compile(optimizer, loss=dict.fromkeys(AXES, "mean_squared_error"), jit_compile=False)
    optimizer.build(model.trainable_variables)
    count_steps(model, optimizer)
    return optimizer


def training_step(
    model: Any,
    losses: Losses = PAPER_LOSSES,
    devices: Devices = ONE_DEVICE,
    loss_scale: Any = None,
    xla: bool = False,
) -> Callable[..., dict[str, Any]]:
    """One update of a compiled network, as a function of a batch, which the devices share.

    The function takes RGB crops (b, 224, 224, 3), 0...255, and what is true, {axis: (b, 1)} in radians; it returns the
    unweighted losses {axis: scalar} from before the update.

    Args:
        devices: which share the batch; a machine gives the function its part of it.
        loss_scale: `rafa.train.devices.LossScale` of a network that computes in float16.
        xla: compile the step with XLA; on one device only.
    """
    from rafa.net.backend import tf

    errors = {"squared": tf.square, "absolute": tf.abs}

    def update(crops: Any, true: dict[str, Any]) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            found = model(tf.cast(crops, tf.float32), training=True)
            wrong = {
                name: errors[kind](tf.cast(found[name], tf.float32) - true[name]) for name, (_, kind) in losses.items()
            }
            means = {name: tf.reduce_mean(each) / devices.count for name, each in wrong.items()}
            loss = tf.add_n([weight * means[name] for name, (weight, _) in losses.items()])
            loss = loss * loss_scale.factor if loss_scale else loss
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        if loss_scale:
            gradients = loss_scale.unscaled(gradients, devices.count)
        if norm := model.optimizer.global_clipnorm:
            gradients = devices.clipped_together(gradients, norm)
        model.optimizer.apply(gradients, variables)
        return means

    return devices.step(update) if devices.strategy else tf.function(update, reduce_retracing=True, jit_compile=xla)


def refuse_diverged(found: dict[str, float], losses: Losses, where: str) -> None:
    """Raise DivergedError where the losses of a step are not finite, or beyond what any angle could give."""
    for name, (_, kind) in losses.items():
        bound = LARGEST_ERROR**2 if kind == "squared" else LARGEST_ERROR
        if not found[name] <= bound:  # NaN too
            problem = f"the {name} loss is {found[name]:.4g}; no angle gives more than {bound:g}"
            raise DivergedError(f"{where}: {problem}: the training has diverged; lower --learning-rate")


class PaperRecipe:
    """What a run trains and how, with the options of `train_rafa-net.py`: the authors' way.

    `rafa.heads.recipe` has another.
    """

    losses = PAPER_LOSSES

    def __init__(
        self, options: argparse.Namespace, train: Listed, devices: Devices = ONE_DEVICE, precision: str = "float32"
    ) -> None:
        self.options, self.train, self.devices, self.precision = options, train, devices, precision

    def build(self) -> Any:
        """The compiled network."""
        from rafa_model import build_rafa_net

        weights = None if self.options.resume or self.options.weights == "none" else self.options.weights
        model = build_rafa_net(self.options.backbone, weights)
        compile_rafa_net(model, self.options.learning_rate)
        return model

    def start_epoch(self, model: Any, epoch: int) -> None:
        """Set the learning rate of an epoch, counted from 0."""
        rate = learning_rate_of(epoch, self.options.learning_rate, self.options.decay_every)
        model.optimizer.learning_rate = rate

    def batches(self, first_epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """Endless batches of crops and labels, from a step of an epoch on."""
        options = self.options
        what = self.train, options.batch_size, options.train_margin, options.seed, options.workers
        return training_batches(*what, first_epoch, self.devices.machine, first_step, options.cache * 1e9)

    def finish(self, model: Any, run: RunFolder) -> tuple[Any, Path]:
        """The network to be scored after the last epoch, and its file."""
        return self.to_score(model), run.checkpoint

    def to_score(self, model: Any) -> Any:
        """The network in single precision on one device: the model itself where it is that."""
        if not self.devices.strategy and self.precision == "float32":
            return model
        from rafa_model import build_rafa_net

        network = build_rafa_net(self.options.backbone, None)
        for layer in network.layers:
            layer.set_weights(model.get_layer(layer.name).get_weights())
        return network


def watch(model: Any, test: Listed, margin: float, workers: int) -> dict[str, float]:
    """Mean absolute errors on the test list in degrees, for monitoring only: {"test_mae_yaw": ..., "test_mae": ...}."""
    columns = metrics.per_image(predict_listed(partial(predict_angles, model, fill=True), test, margin, workers))
    return {f"test_{key}": float(columns[key].mean()) for key in MAE_KEYS}


class ExpectedTime:
    """Says after 20 steps how long an epoch and the run will take."""

    def __init__(self, steps: int, epochs: int) -> None:
        self.steps, self.epochs, self.done, self.start = steps, epochs, 0, 0.0

    def count(self) -> None:
        """Count a step; the first ones compile and do not count."""
        self.done += 1
        if self.done == 5:
            self.start = time.monotonic()
        if self.done == 25:
            seconds = (time.monotonic() - self.start) / 20 * self.steps
            print(f"expected: {seconds:.0f} s an epoch, {seconds * self.epochs / 60:.0f} min for the run", flush=True)
