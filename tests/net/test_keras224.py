"""The optimizer and batch normalisation of Keras 2.2.4, against numbers computed with it and by hand."""

from pathlib import Path

import numpy as np
import pytest

from rafa.net.backend import keras
from rafa.net.keras224 import BatchNormalization, RMSprop, count_steps

PARITY = Path(__file__).parents[1] / "parity"


@pytest.fixture(scope="module")
def parity():
    return dict(np.load(PARITY / "batch_norm.npz"))


def layer_at(step, **settings):
    layer = BatchNormalization(epsilon=1e-3, momentum=0.99, **settings)
    layer.step = lambda: step
    return layer


@pytest.mark.parametrize(("kind", "dtype"), [("maps", "float32"), ("maps", "float64"), ("vectors", "float32")])
def test_the_averages_after_each_of_five_steps_are_those_of_keras_2_2_4(kind, dtype, parity):
    batches = parity[f"{kind}.batches"]
    layer = layer_at(1, dtype=dtype)
    layer.build((None, *batches.shape[2:]))
    names = ("gamma", "beta", "moving_mean_before", "moving_variance_before")
    layer.set_weights([parity[f"{kind}.{name}"] for name in names])
    for step, batch in enumerate(batches, start=1):
        layer.step = lambda step=step: step
        layer(batch, training=True)
        for name in ("moving_mean", "moving_variance"):
            expected = parity[f"{kind}.{name}_after_each_step"][step - 1]
            np.testing.assert_allclose(getattr(layer, name).numpy(), expected, rtol=1e-5, err_msg=f"{name}, {step}")
    expected = parity[f"{kind}.inference_of_the_first_batch_after_5_steps"]
    np.testing.assert_allclose(layer(batches[0], training=False).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_the_first_step_replaces_the_averages_by_the_unbiased_statistics_of_the_batch():
    layer = layer_at(1)
    layer(np.float32([[0.0], [2.0], [4.0], [6.0]]), training=True)  # mean 3, biased variance 5
    assert float(layer.moving_mean[0]) == 3
    assert float(layer.moving_variance[0]) == pytest.approx(5 * 4 / (4 - 1.001))


def test_on_maps_the_variance_is_unbiased_twice():
    layer = layer_at(1)
    layer(np.float32([0.0, 2.0, 4.0, 6.0]).reshape(1, 2, 2, 1), training=True)
    assert float(layer.moving_variance[0]) == pytest.approx(5 * 4 / (4 - 1.001) * 4 / 3)


def test_the_second_step_takes_the_average_of_two_batches():
    layer = layer_at(1)
    layer(np.float32([[1.0], [1.0]]), training=True)
    layer.step = lambda: 2
    layer(np.float32([[4.0], [4.0]]), training=True)
    rate = 0.01 / (1 - 0.99**2)
    assert float(layer.moving_mean[0]) == pytest.approx(1 + 3 * rate, rel=1e-5)


def test_training_normalises_with_the_biased_variance_of_the_batch():
    x = np.float32([[0.0], [2.0], [4.0], [6.0]])
    expected = (x - 3) / np.sqrt(5 + 1e-3)
    np.testing.assert_allclose(layer_at(7)(x, training=True).numpy(), expected, rtol=1e-5)


def test_at_inference_and_when_frozen_it_is_keras_own_and_moves_nothing():
    x = np.random.default_rng(0).normal(3, 2, (8, 5)).astype("float32")
    ours, keras_own = layer_at(1), keras.layers.BatchNormalization(epsilon=1e-3)
    np.testing.assert_array_equal(ours(x).numpy(), keras_own(x).numpy())
    ours.trainable = False
    np.testing.assert_array_equal(ours(x, training=True).numpy(), keras_own(x).numpy())
    assert not ours.moving_mean.numpy().any()


def test_training_without_a_step_count_is_refused():
    layer = BatchNormalization(name="norm")
    with pytest.raises(RuntimeError, match="norm does not know the training step; call count_steps"):
        layer(np.ones((2, 3), "float32"), training=True)


def test_the_optimizer_counts_for_every_layer_of_a_network(model):
    optimizer = RMSprop()
    optimizer.build(model.trainable_variables)
    count_steps(model, optimizer)
    norms = [layer for layer in model.layers if isinstance(layer, BatchNormalization)]
    assert len(norms) == sum("bn" in layer.name for layer in model.layers) > 10
    assert {int(layer.step()) for layer in norms} == {1}
    optimizer.iterations.assign(41)
    assert {int(layer.step()) for layer in norms} == {42}
    for layer in norms:
        layer.step = None


def test_an_rmsprop_step_is_the_formula():
    weight = keras.Variable([1.0])
    optimizer = RMSprop(learning_rate=0.5, rho=0.9, epsilon=0.25)
    optimizer.apply([np.float32([2.0])], [weight])
    v = 0.1 * 2.0**2
    assert float(weight[0]) == pytest.approx(1 - 0.5 * 2.0 / (v**0.5 + 0.25), rel=1e-6)
    optimizer.apply([np.float32([1.0])], [weight])
    v = 0.9 * v + 0.1
    assert float(weight[0]) == pytest.approx(1 - 0.5 * 2 / (0.4**0.5 + 0.25) - 0.5 / (v**0.5 + 0.25), rel=1e-6)


def test_its_defaults_are_those_of_keras_2_2_4():
    optimizer = RMSprop()
    assert (float(optimizer.learning_rate), optimizer.rho, optimizer.epsilon) == (pytest.approx(1e-3), 0.9, 1e-7)
