"""One training on several devices: all visible GPUs of this machine, or of all machines that TF_CONFIG names."""

import contextlib
import hashlib
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_loaders import WHOLE, Shard
from rafa.net.backend import keras, tf
from rafa.script import InputError

MALFORMED = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
_EXAMPLE = '{"cluster": {"worker": ["first:2222", "second:2222"]}, "task": {"type": "worker", "index": 0}}'


def this_machine() -> Shard:
    """Which machine this is of those that the environment variable TF_CONFIG names; the first writes the run folder.

    Raises:
        InputError: a TF_CONFIG that does not say so.
    """
    text = os.environ.get("TF_CONFIG", "")
    if not text:
        return WHOLE
    with contextlib.suppress(*MALFORMED):
        config = json.loads(text)
        workers, task, index = config["cluster"]["worker"], config["task"], config["task"]["index"]
        named = list(config["cluster"]) == ["worker"] and task["type"] == "worker" and isinstance(workers, list)
        different = all(map(_is_address, workers)) and len(set(workers)) == len(workers)
        if named and different and type(index) is int and 0 <= index < len(workers):
            return Shard(index, len(workers))
    raise InputError(
        f"TF_CONFIG is {' '.join(text.split())}; expected all machines as host:port, none twice, and the index of "
        f"this one, a number from 0, as in {_EXAMPLE}"
    )


def _is_address(text: str) -> bool:
    """Whether it names a host and a port; where none can be, TensorFlow waits for it without a word."""
    port = re.fullmatch(r"(?:[^\s/:\[\]]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", text, re.ASCII)
    return port is not None and text.isascii() and 1 <= int(port[1]) <= 65535


@contextlib.contextmanager
def _ended_by_ctrl_c() -> Iterator[None]:
    """Ctrl-C ends the process in the block, where native code waits and Python's handlers do not run.

    SIGTERM does not: TensorFlow puts a handler of its own in the place of ours, which the end of the block puts back.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class LostMachineError(InputError):
    """Another machine of the training ended, or cannot be reached."""


class Devices:
    """The devices that share a training.  They hold the same weights, and sum their gradients at every step.

    Every device normalises its share of a batch with the statistics of that share, and has moving averages of its own,
    which `averaging` makes one.  On one device nothing here does anything.

    Args:
        strategy: from `tf.distribute`; None: one device.
        machine: what of every batch this machine reads.
    """

    def __init__(self, strategy: Any = None, machine: Shard = WHOLE) -> None:
        self.strategy, self.machine = strategy, machine
        self.count: int = strategy.num_replicas_in_sync if strategy else 1

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Where a network and its optimizer must be built."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def check(self, size: int, xla: bool) -> None:
        """Print what of a batch every device gets.

        Raises:
            InputError: a batch that cannot be cut into equal shares, or XLA, which is for one device.
        """
        if self.strategy and xla:
            raise InputError(f"--xla compiles the step of one device, and there are {self.count}: leave it out")
        if size % self.count:
            fit = max(1, size // self.count) * self.count
            raise InputError(
                f"batches of {size} images cannot be shared equally by {self.count} devices: give a --batch-size such "
                f"as {fit} or {fit + self.count}, or hide GPUs with CUDA_VISIBLE_DEVICES"
            )
        if self.strategy:
            each = size // self.count
            print(f"{self.count} devices: each takes {each} of {size} images; batch normalisation sees only those")

    def step(self, update: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        """A step on all devices, as a function of this machine's part of a batch, which returns numbers.

        Args:
            update: the step of one device: its part of the batch → its part of every loss, to be summed.
        """
        from rafa.net.backend import tf

        strategy, here = self.strategy, len(self.strategy.extended.worker_devices)

        @tf.function(reduce_retracing=True)
        def shared(batch: Any) -> dict[str, Any]:
            return {name: strategy.reduce("SUM", part, axis=None) for name, part in strategy.run(update, batch).items()}

        def step(*batch: Any) -> dict[str, float]:
            def share(device: Any) -> Any:
                part = Shard(device.replica_id_in_sync_group % here, here)
                return tf.nest.map_structure(lambda rows: tf.constant(rows[part.places(len(rows), len(rows))]), batch)

            found = shared(strategy.experimental_distribute_values_from_function(share))
            return {name: float(loss) for name, loss in found.items()}

        return self._lost_machines_said(step)

    def _lost_machines_said(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function; where another machine is lost, it raises LostMachineError, after some ten seconds."""
        from rafa.net.backend import tf

        lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)

        def guarded(*arguments: Any) -> Any:
            try:
                return function(*arguments)
            except lost as error:
                if self.machine.count == 1:
                    raise
                which = f"machine {self.machine.index} of {self.machine.count} (counted from 0)"
                raise LostMachineError(
                    f"{which} has lost another machine of this training, or its network; end the training on all of "
                    "them, then start all again with --resume"
                ) from error

        return guarded

    def clipped_together(self, gradients: list[Any], norm: float) -> list[Any]:
        """A device's part of the clipped sum of all devices' gradients.

        Keras would clip what each device has before it sums; on one device it does it all.
        """
        if not self.strategy:
            return gradients
        from rafa.net.backend import tf

        summed = tf.distribute.get_replica_context().all_reduce("SUM", gradients)
        clipped, _ = tf.clip_by_global_norm(summed, norm)
        return [gradient / self.count for gradient in clipped]

    def averaging(self, model: Any) -> Callable[[], None]:
        """A function that gives all devices the mean of their moving averages.

        These are sums over the steps; so their mean is what the devices would hold if they had averaged at every step.
        """
        if not self.strategy:
            return lambda: None
        from rafa.net.backend import tf
        from rafa.net.keras224 import BatchNormalization

        norms = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
        averages = [average.value for norm in norms for average in (norm.moving_mean, norm.moving_variance)]

        def average() -> None:
            means = tf.distribute.get_replica_context().all_reduce("MEAN", [tf.identity(each) for each in averages])
            for each, mean in zip(averages, means, strict=True):
                each.assign(mean)

        return self._lost_machines_said(tf.function(lambda: self.strategy.run(average)))

    def refuse_unlike(self, facts: dict[str, Any]) -> None:
        """Compare what every machine was started with, by name; all must call it, with the same names.

        Raises:
            InputError: on every machine, if a fact is not the same on all; it names those.
        """
        if self.machine.count == 1:
            return
        from rafa.net.backend import tf

        hashes = [list(hashlib.sha256(repr(fact).encode()).digest()) for fact in facts.values()]
        bits = tf.constant(np.unpackbits(np.array(hashes, np.uint8), axis=1), "float32")

        def shared() -> Any:
            return self.strategy.reduce("SUM", self.strategy.run(lambda: tf.identity(bits)), axis=None)

        set_on = self._lost_machines_said(tf.function(shared))().numpy()  # (facts, 256) devices
        if unlike := [name for name, on in zip(facts, set_on, strict=True) if np.any((on > 0) & (on < self.count))]:
            raise InputError(
                f"the machines were not started alike, they differ in {', '.join(unlike)}; start all of them with "
                "the same command, lists and images"
            )


ONE_DEVICE = Devices()


def all_devices(machine: Shard = WHOLE) -> Devices:
    """All GPUs that are visible, of all machines; where there are none, each machine's processors as one device.

    To be called before anything else of TensorFlow; with several machines it waits for the others, and Ctrl-C
    (SIGINT) then ends the process without another line.
    """
    from rafa.net.backend import tf

    if machine.count > 1:
        print(
            f"machine {machine.index} of {machine.count} (counted from 0): waiting for the others; Ctrl-C ends it",
            flush=True,
        )
        try:
            with _ended_by_ctrl_c():
                return Devices(tf.distribute.MultiWorkerMirroredStrategy(), machine)
        except (RuntimeError, tf.errors.OpError) as error:
            address = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"][machine.index]
            raise InputError(
                f"the machines that TF_CONFIG names cannot train together: {' '.join(str(error).split())}; is this one "
                f"reached at {address}, and is that port free?"
            ) from error
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(found) == 1:
        return ONE_DEVICE
    os.environ.pop("TF_CONFIG", None)  # empty or of this machine alone, which MirroredStrategy does not expect
    return Devices(tf.distribute.MirroredStrategy([device.name for device in found]))


FIRST_SCALE = 2.0**15


GROWTH_STEPS = 2000  # steps of finite gradients after which the scale is doubled


_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}  # of x86 and Arm processors, as Linux names them


def choose_precision(mixed: bool, begun: dict[str, Any]) -> str:
    """Keras' name of the precision to compute in; prints what is chosen and why.

    Args:
        mixed: whether to compute in half precision, with weights in single precision.
        begun: the record of a run that goes on, in the precision that it started in; empty for a new one.
    """
    if not mixed:
        return "float32"
    if begun.get("precision") in ("mixed_float16", "mixed_bfloat16"):
        print(f"mixed precision: {begun['precision'].removeprefix('mixed_')}, in which the run was started")
        return str(begun["precision"])
    if tf.config.list_physical_devices("GPU"):
        print("mixed precision: float16, which GPUs compute fast, with a scaled loss: its smallest number is 6e-8")
        return "mixed_float16"
    has = "which this processor computes" if _has_bfloat16() else "for which this processor has no instructions: slow"
    print(f"mixed precision: bfloat16, {has}; its range is that of float32, so the loss is not scaled")
    return "mixed_bfloat16"


def _has_bfloat16() -> bool:
    with contextlib.suppress(OSError):
        return bool(_INSTRUCTIONS & set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split()))
    return False


class LossScale:
    """A factor of the loss that halves where gradients overflow and doubles after 2,000 steps where none does.

    A step whose gradients overflow, on any device, counts as a step of gradients 0.  The factor is saved with the
    optimizer.

    Args:
        optimizer: built, and not yet saved or loaded.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer) -> None:
        first = keras.initializers.Constant(FIRST_SCALE)
        self.factor = optimizer.add_variable((), first, "float32", name="loss_scale")
        self.steps = optimizer.add_variable((), "zeros", "float32", name="steps_of_this_loss_scale")

    def unscaled(self, gradients: list[Any], devices: int) -> list[Any]:
        """The gradients of the loss from those of the scaled loss, on one of a number of devices."""
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
        if devices > 1:
            agreeing = tf.distribute.get_replica_context().all_reduce("SUM", tf.cast(finite, tf.float32))
            finite = agreeing == devices
        factor, steps = tf.identity(self.factor.value), self.steps.value + 1
        grows = finite & (steps >= GROWTH_STEPS)
        self.factor.assign(factor * tf.where(finite, tf.where(grows, 2.0, 1.0), 0.5))
        self.steps.assign(tf.where(finite & ~grows, steps, 0.0))
        return [tf.where(finite, gradient / factor, 0.0) for gradient in gradients]


def loss_scale_for(optimizer: keras.optimizers.Optimizer, precision: str) -> LossScale | None:
    """A loss scale where the precision needs one."""
    return LossScale(optimizer) if precision == "mixed_float16" else None
