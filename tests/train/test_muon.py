"""The optimizer of the suite's own weights."""

import numpy as np
import pytest

from rafa.net.backend import keras, tf
from rafa.train.muon import Muon


def after(kind, values, gradients):
    """The values after a compiled step of 0.01 with each of the gradients."""
    optimizer, variables = kind(0.01), [keras.Variable(value) for value in values]
    optimizer.build(variables)
    update = tf.function(lambda *gradients: optimizer.apply(gradients, variables))
    for each in gradients:
        update(*map(tf.constant, each))
    return [variable.numpy() for variable in variables]


@pytest.mark.parametrize("shape", [(7, 7, 3, 24), (1, 1, 6, 36)])
def test_a_kernel_moves_about_equally_far_in_all_directions(shape):
    matrix = np.random.default_rng(0).normal(size=(np.prod(shape[:3]), shape[3]))
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    gradient = (left * np.geomspace(1, 0.02, min(matrix.shape)) @ right).astype("float32").reshape(shape)
    (moved,) = after(Muon, [np.zeros(shape, "float32")], [[gradient]])
    turned = left.T @ moved.reshape(matrix.shape) @ right.T / (-0.01 * 0.4 * max(matrix.shape) ** 0.5)
    lengths = np.diag(turned)
    np.testing.assert_allclose(turned, np.diag(lengths), atol=1e-4)
    assert lengths.min() > 0.65 and lengths.max() < 1.25


def test_a_kernel_keeps_a_decaying_sum_of_gradients_and_the_rest_follows_adam():
    rng = np.random.default_rng(0)
    sizes = (3, 3, 4, 6), (5, 6), (6,)
    values, first, second = ([rng.normal(size=size).astype("float32") for size in sizes] for _ in range(3))
    muon, adam = (after(kind, values, (first, second)) for kind in (Muon, keras.optimizers.Adam))
    for one, other in zip(muon[1:], adam[1:], strict=True):
        np.testing.assert_array_equal(one, other)
    seen = 1.95 * first[0], 1.95 * second[0] + 0.95**2 * first[0]  # the gradient and 0.95 of the sum
    alone = [after(Muon, [np.zeros(sizes[0], "float32")], [[each]])[0] for each in seen]
    np.testing.assert_allclose(muon[0], values[0] + sum(alone), atol=1e-5)
