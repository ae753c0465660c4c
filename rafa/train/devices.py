"""The devices of a training: one, all GPUs of this machine, or all GPUs of the machines that TF_CONFIG names."""

import contextlib
import hashlib
import json
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np

from data_loaders import WHOLE, Shard
from rafa.script import InputError

_EXAMPLE = '{"cluster": {"worker": ["first:2222", "second:2222"]}, "task": {"type": "worker", "index": 0}}'


def this_machine() -> Shard:
    """Which machine this is of those that TF_CONFIG names, a chief first; one machine counts as none named.

    Raises:
        InputError: a TF_CONFIG that does not say so.
    """
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text or "{}")
        cluster = config.get("cluster") or {}
        machines = [(kind, index) for kind in ("chief", "worker") for index in range(len(cluster.get(kind, [])))]
        if len(machines) < 2:
            return WHOLE
        task = config["task"]
        return Shard(machines.index((task["type"], int(task["index"]))), len(machines))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        expected = f"expected the addresses of all machines and which of them this is, as in {_EXAMPLE}"
        raise InputError(f"TF_CONFIG is {' '.join(text.split())}; {expected}") from error


class Devices:
    """The devices that share a training.  They hold the same weights, and sum their gradients at every step.

    Each device normalises its part of a batch with the statistics of that part, and has moving averages of its own,
    which `averaging` makes one.

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

    def check(self, batch_size: int, xla: bool = False) -> None:
        """Say what of a batch each device gets.

        Raises:
            InputError: batches that the devices cannot share equally; several devices with XLA.
        """
        if batch_size % self.count:
            fit = -(-batch_size // self.count) * self.count
            raise InputError(
                f"{self.count} devices cannot share batches of {batch_size} images equally; give --batch-size {fit}, "
                "or hide GPUs by CUDA_VISIBLE_DEVICES"
            )
        if self.strategy and xla:
            raise InputError(f"--xla compiles the step of one device, and there are {self.count}; leave it out")
        if self.count > 1:
            each = batch_size // self.count
            print(f"{self.count} devices, {each} images of a batch each: batch normalisation sees only those")

    def summed(self, gradients: list[Any]) -> list[Any]:
        """The sum of the devices' gradients, divided by their number, because an optimizer sums what it is given."""
        if not self.strategy:
            return gradients
        from rafa.net.backend import tf

        return [each / self.count for each in tf.distribute.get_replica_context().all_reduce("SUM", gradients)]

    def step(self, update: Callable[..., dict[str, Any]], xla: bool = False) -> Callable[..., dict[str, Any]]:
        """A compiled step, as a function of this machine's part of a batch.

        Args:
            update: of one device: its part of the batch → its part of every loss, to be summed.
            xla: compile with XLA; on one device only.

        Raises:
            InputError: from the step, where another machine of the training is lost.
        """
        from rafa.net.backend import tf

        if not self.strategy:
            return tf.function(update, reduce_retracing=True, jit_compile=xla)
        strategy, here = self.strategy, len(self.strategy.extended.worker_devices)

        @tf.function(reduce_retracing=True)
        def shared(batch: Any) -> dict[str, Any]:
            return {name: strategy.reduce("SUM", part, axis=None) for name, part in strategy.run(update, batch).items()}

        def step(*batch: Any) -> dict[str, Any]:
            def part_of(device: Any) -> Any:
                part = device.replica_id_in_sync_group % here
                return tf.nest.map_structure(lambda rows: tf.constant(np.split(rows, here)[part]), batch)

            try:
                return shared(strategy.experimental_distribute_values_from_function(part_of))
            except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError) as error:
                which = f"machine {self.machine.index} of {self.machine.count} (counted from 0)"
                raise InputError(f"{which} has lost another one; end the training on all of them") from error

        return step

    def averaging(self, model: Any) -> Callable[[], None]:
        """A function that gives all devices the mean of their moving averages.

        They would hold it if they averaged at every step, because these averages are sums over the steps.
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

        return tf.function(lambda: self.strategy.run(average))

    def refuse_unlike(self, facts: object) -> None:
        """Raise an InputError on every machine, if this is not the same on all of them; all must call it."""
        if self.machine.count == 1:
            return
        from rafa.net.backend import tf

        digest = np.frombuffer(hashlib.sha256(repr(facts).encode()).digest(), np.uint8)
        bits = tf.constant(np.unpackbits(digest), "float32")

        @tf.function
        def summed() -> Any:
            return self.strategy.reduce("SUM", self.strategy.run(tf.identity, (bits,)), axis=None)

        total = summed().numpy()
        if np.any((total > 0) & (total < self.count)):
            raise InputError("the machines differ in options, lists, images or checkpoint; start all of them alike")


ONE_DEVICE = Devices()


def all_devices(machine: Shard = WHOLE) -> Devices:
    """All GPUs that are visible, of all machines; where there are none, each machine's processors as one device.

    To be called before anything else of TensorFlow; with several machines it waits for the others.
    """
    from rafa.net.backend import tf

    if machine.count > 1:
        print(f"machine {machine.index} of {machine.count} (counted from 0): waiting for the others", flush=True)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends native code too, in which Python's handler waits
        devices = Devices(tf.distribute.MultiWorkerMirroredStrategy(), machine)
        for number, handler in handlers.items():  # TensorFlow sets others
            signal.signal(number, handler)
        return devices
    os.environ.pop("TF_CONFIG", None)  # of this machine alone, which MirroredStrategy does not expect
    names = [device.name for device in tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")]
    return ONE_DEVICE if len(names) == 1 else Devices(tf.distribute.MirroredStrategy(names))
