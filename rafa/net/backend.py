"""Keras and TensorFlow, imported without TensorFlow's start-up messages: `from rafa.net.backend import keras, tf`."""

import contextlib
import faulthandler
import gc
import os
import sys
import tempfile
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Hold back what native code writes to stderr, and show it if something goes wrong.

    TensorFlow greets with a dozen lines that no setting turns off; TF_CPP_MIN_LOG_LEVEL=0 still shows what follows.
    They are shown where another thread may write meanwhile, and where the program has asked for reports of crashes.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow chooses oneDNN itself only on processors with instructions for neural networks.  On one without, an AMD
    # EPYC with AVX2, a step of ResNet-50 takes two thirds of the time with it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if threading.active_count() > 1 or faulthandler.is_enabled() or sys.stderr is None:
        yield
        return
    stderr = os.dup(2)
    faulthandler.enable(stderr)  # an abort would take what is held back with it
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            faulthandler.disable()
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


@contextlib.contextmanager
def _no_garbage_collections() -> Iterator[None]:
    """Search nothing for garbage in the block, which imports: there is next to none, and it takes half a second."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count() == 0:
            gc.freeze()
            gc.unfreeze()  # what was imported counts as old now, and is not searched twice more on its way there
        if enabled:
            gc.enable()


with _held_back_stderr(), _no_garbage_collections():
    import keras
    import keras_self_attention
    import tensorflow as tf
    from keras import layers, ops

__all__ = ["keras", "keras_self_attention", "layers", "ops", "tf"]


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Layers that are built in the block compute in this precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
