"""Keras and TensorFlow, imported without their start-up messages: `from rafa.net.backend import keras, tf`."""

import contextlib
import gc
import os
from collections.abc import Iterator
from typing import Any

from rafa.script import native_stderr_hidden

# Whatever the user's shell or ~/.keras/keras.json says: the weights, the layers and every number are for these.
os.environ.update({"KERAS_BACKEND": "tensorflow", "TF_USE_LEGACY_KERAS": "0"})
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow chooses oneDNN itself only on processors with instructions for neural networks.  On one without, an AMD
# EPYC with AVX2, a step of ResNet-50 takes two thirds of the time with it.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

gc.disable()  # imports leave next to no garbage, and searching for it takes 0.7 s
try:
    with native_stderr_hidden():  # half a dozen lines of greeting, which no variable turns off
        import tensorflow as tf
    import keras
    import keras_self_attention
    from keras import layers, ops
finally:
    gc.freeze()
    gc.unfreeze()  # what was imported counts as old now, and is not searched three times more: 0.4 s
    gc.enable()
keras.config.set_floatx("float32")
keras.config.set_epsilon(1e-7)
keras.config.set_image_data_format("channels_last")

Tensor = Any  # Keras' symbolic tensors have no public type
__all__ = ["Tensor", "computing_in", "keras", "keras_self_attention", "layers", "ops", "tf"]


@contextlib.contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Layers that are built in the block compute in this precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
