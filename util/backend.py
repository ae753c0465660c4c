"""Keras and TensorFlow, imported without TensorFlow's start-up messages: `from util.backend import keras, tf`."""

import contextlib
import gc
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def _held_back_stderr() -> Iterator[None]:
    """Hold back what native code writes to stderr, and show it if something goes wrong.

    TensorFlow greets with a dozen lines that no setting turns off; TF_CPP_MIN_LOG_LEVEL=0 still shows what follows.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow chooses oneDNN itself only on processors with instructions for neural networks.  On one without, an AMD
    # EPYC with AVX2, a step of ResNet-50 takes two thirds of the time with it.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


@contextlib.contextmanager
def _out_of_garbage_collections() -> Iterator[None]:
    """No garbage collection searches what is imported in the block: not meanwhile, not later, and not at the exit.

    Nothing of it is garbage, and searching it took 30% of the time of `predict.py` with one photograph.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


with _held_back_stderr(), _out_of_garbage_collections():
    import keras
    import keras_self_attention
    import tensorflow as tf
    from keras import layers, ops

__all__ = ["keras", "keras_self_attention", "layers", "ops", "tf"]
