"""Weights, images and labels of the whole network that are defined by name, as in tests/parity/README.md."""

import zlib

import numpy as np

from rafa.net.backend import keras
from rafa.pose import AXES
from rafa_model import SelfAttention

# Batch normalisation takes away what a bias before it adds, and a softmax what is the same for all it compares: the
# gradients of these are rounding, which RMSprop turns into steps of full length.
CANCELLED = ("_conv/bias", "f/bias", "pool/ba", "weigh/b")


def weights_by_name(network):
    """Every weight of the network by its canonical name."""
    named = {}
    for layer in network.layers:
        axis, _, name = layer.name.partition("_")
        where = f"{axis}/{name}" if axis in AXES else f"trunk/{layer.name}"
        if isinstance(layer, SelfAttention):
            named[f"{axis}/gamma"] = layer.gamma
            for part in ("f", "g", "h"):
                convolution = getattr(layer, part)
                weights = {"kernel": convolution.kernel, "bias": convolution.bias, "u": convolution.u}
                named |= {f"{axis}/{part}/{key}": weight for key, weight in weights.items()}
        elif name == "attentional_pooling":
            named |= {f"{axis}/pool/{key}": getattr(layer, key) for key in ("Wt", "Wx", "bh", "Wa", "ba")}
        elif name == "weighted_attention":
            named |= {f"{axis}/weigh/{key}": getattr(layer, key) for key in ("W", "b")}
        elif layer.name in AXES:
            named |= {f"{axis}/dense/{weight.name}": weight for weight in layer.weights}
        else:
            named |= {f"{where}/{weight.name}": weight for weight in layer.weights}
    return named


def give_weights(network):
    """Set every weight to the value of its name; returns the weights by name."""
    named = weights_by_name(network)
    for name, weight in named.items():
        weight.assign(given(name, tuple(weight.shape)))
    return named


def given(name, shape):
    """The value of a weight by its canonical name, rounded to single precision."""
    rng, last = generator(f"given/{name}"), name.rsplit("/", 1)[1]
    if last == "moving_variance":
        value = rng.uniform(0.5, 1.5, shape)
    elif last == "gamma":
        value = rng.uniform(0.4, 0.9, shape) if np.prod(shape) > 1 else np.full(shape, 0.5)
    elif last in ("beta", "moving_mean", "bias", "b", "ba", "bh"):
        value = 0.1 * rng.normal(size=shape)
    elif last == "u":
        value = rng.normal(size=shape)
    else:
        value = rng.normal(size=shape) * np.sqrt(1 / np.prod(shape[:-1]))
    return value.astype("float32").astype(keras.config.floatx())


def generator(text):
    """The random generator of a name."""
    return np.random.default_rng(zlib.crc32(text.encode()))


def images_and_labels(what):
    """Eight images (8, 224, 224, 3) uint8 and their labels {axis: (8, 1)} in radians."""
    rng = generator(f"images/{what}")
    coarse = rng.integers(0, 256, (8, 15, 15, 3))
    smooth = _sixteen_times(_sixteen_times(coarse).swapaxes(1, 2)).swapaxes(1, 2) // 256
    images = np.clip(smooth + rng.integers(-12, 13, (8, 224, 224, 3)), 0, 255).astype("uint8")
    labels = generator(f"labels/{what}").integers(-1024, 1025, (8, 3)) / 1024
    return images, {axis: labels[:, [column]] for column, axis in enumerate(AXES)}


def _sixteen_times(values):
    """16 times the values at 16 places between each two rows, by linear interpolation."""
    k = np.arange(16)[None, None, :, None, None]
    between = values[:, :-1, None] * (16 - k) + values[:, 1:, None] * k
    return between.reshape(len(values), -1, *values.shape[2:])
