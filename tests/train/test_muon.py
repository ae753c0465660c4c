"""The optimizer of the suite's own weights."""

import numpy as np
import pytest

from rafa.net.backend import keras, tf
from rafa.train.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(48, 12), (12, 48), (20, 20)])
def test_singular_values_become_about_one_and_directions_stay(shape):
    matrix = np.random.default_rng(0).normal(size=shape)
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    matrix = left * np.geomspace(1, 0.05, min(shape)) @ right
    turned = left.T @ tf.function(orthogonal)(tf.constant(matrix)).numpy() @ right.T
    values = np.diag(turned)
    np.testing.assert_allclose(turned, np.diag(values), atol=1e-9)
    assert values.min() > 0.65 and values.max() < 1.25


def test_the_product_of_the_polynomials_is_that_of_keras_muon_in_single_precision():
    matrix = np.random.default_rng(0).normal(size=(288, 32)).astype("float32")
    expected = keras.optimizers.Muon().zeropower_via_newtonschulz5(tf.constant(matrix), 5)
    np.testing.assert_allclose(orthogonal(tf.constant(matrix)), expected, atol=1e-5)


def run(kind, values, gradients):
    """The values after a compiled step with each of the gradients."""
    optimizer, variables = kind(0.01), [keras.Variable(value) for value in values]
    optimizer.build(variables)
    update = tf.function(lambda *gradients: optimizer.apply(gradients, variables))
    for each in gradients:
        update(*map(tf.constant, each))
    return [variable.numpy() for variable in variables]


def test_kernels_of_convolutions_turn_and_the_rest_follows_adam():
    rng = np.random.default_rng(0)
    sizes = (3, 3, 4, 6), (5, 6), (6,)
    values, first, second = ([rng.normal(size=size).astype("float32") for size in sizes] for _ in range(3))
    muon, adam = (run(kind, values, (first, second)) for kind in (Muon, keras.optimizers.Adam))
    for one, other in zip(muon[1:], adam[1:], strict=True):
        np.testing.assert_array_equal(one, other)
    seen = 1.95 * first[0], 1.95 * second[0] + 0.95**2 * first[0]  # the gradient and 0.95 of the average
    steps = [0.01 * 0.4 * 6 * orthogonal(tf.constant(each.reshape(36, 6))).numpy() for each in seen]
    np.testing.assert_allclose(muon[0], values[0] - sum(steps).reshape(values[0].shape), atol=1e-5)
