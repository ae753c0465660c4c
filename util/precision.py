"""Training in half precision: which kind, and a scale of the loss under which small gradients survive in float16."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from util.backend import keras, tf

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


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Layers that are built in the block compute in this precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


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
