"""The paper's recipe: learning rate, batches, the network that is scored, and one training step."""

from types import SimpleNamespace

import numpy as np
import pytest
from helpers.lists import read

from data_loaders import KeptImages, training_batches
from rafa.net.backend import computing_in, keras
from rafa.pose import AXES
from rafa.train.devices import Devices
from rafa.train.recipe import PaperRecipe, compile_rafa_net, to_score, training_step
from rafa.train.run_folder import DivergedError
from rafa_model import build_rafa_net

RNG = np.random.default_rng(0)
CROPS = RNG.integers(0, 256, (4, 224, 224, 3)).astype("uint8")
TARGETS = {axis: RNG.uniform(-1, 1, (4, 1)).astype("float32") for axis in AXES}


def network(precision="float32"):
    keras.utils.set_random_seed(5)
    with computing_in(precision):
        model = build_rafa_net("tiny", weights=None)
        compile_rafa_net(model, precision=precision)
    return model


def recipe(folder, **options):
    defaults = {"batch_size": 2, "train_margin": 0.4, "learning_rate": 1e-3, "decay_every": 0, "cache": 1.0}
    defaults |= {"seed": 3, "workers": 2, "resume": False, "weights": "none", "backbone": "tiny"}
    return PaperRecipe(SimpleNamespace(**defaults | {"precision": "float32"} | options), read(folder))


def test_the_learning_rate_is_divided_by_ten_at_the_first_step_of_an_epoch(folder):
    rate = recipe(folder, decay_every=25).learning_rate  # three steps an epoch
    steps = (0, 74, 75, 149, 150, 225)
    assert [rate(step) for step in steps] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-6])
    assert recipe(folder).learning_rate(10**6) == 1e-3


def test_an_epoch_has_the_batches_of_seed_margin_and_list_whatever_was_kept_in_memory(folder):
    paper = recipe(folder)
    for epoch in (0, 1, 0):
        expected = training_batches(KeptImages(read(folder), 0.4), 2, 3, epoch, 1)
        for (crops, targets), (others, other_targets) in zip(paper.batches(epoch), expected, strict=True):
            np.testing.assert_array_equal(crops, others)
            np.testing.assert_array_equal(targets["roll"], other_targets["roll"])
    assert paper.images.parts


def test_a_new_run_starts_from_the_weights_and_a_resumed_one_does_not_read_them(folder):
    paper = recipe(folder, weights="nowhere.keras")
    with pytest.raises(ValueError, match=r"nowhere\.keras"):
        paper.build()
    assert paper.build(restored=True).optimizer.learning_rate == 1e-3


def test_the_network_that_is_scored_is_in_single_precision_and_answers_alike():
    model = network("mixed_bfloat16")
    copy = to_score(model, SimpleNamespace(backbone="tiny", precision="mixed_bfloat16"), Devices())
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
    for ours, theirs in zip(copy.weights, model.weights, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert to_score(model, SimpleNamespace(backbone="tiny", precision="float32"), Devices()) is model


# --- One step ---
def one_weight(optimizer):
    """A model that multiplies by a weight, 1 at first."""
    x = keras.Input((1,))
    model = keras.Model(x, {"y": keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(x)})
    model.compile(optimizer)
    optimizer.build(model.trainable_variables)
    return model


def batch(*inputs, target=0.0):
    return np.float32(inputs)[:, None], {"y": np.full((len(inputs), 1), target, np.float32)}


@pytest.mark.parametrize("xla", [False, True])
@pytest.mark.parametrize(("kind", "loss", "weight"), [("squared", 5.0, 1 - 0.1 * 3 * 10), ("absolute", 2.0, 0.4)])
def test_losses_are_means_without_their_weight_and_gradients_have_it(kind, loss, weight, xla):
    model = one_weight(keras.optimizers.SGD(0.1))
    losses = training_step(model, {"y": (3.0, kind)}, xla=xla)(*batch(1, 3))  # (1 + 9) / 2 and (1 + 3) / 2
    assert losses == {"y": pytest.approx(loss)}
    assert model.weights[0].numpy()[0, 0] == pytest.approx(weight)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stops_the_training_by_name(value):
    step = training_step(one_weight(keras.optimizers.SGD(0.0)), {"y": (1.0, "squared")})
    step(*batch(1e18))
    with pytest.raises(DivergedError, match=r"diverged: losses y (nan|inf).*--learning-rate"):
        step(*batch(value))


def test_an_overflow_of_the_scaled_loss_is_no_step_and_halves_the_scale():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1))
    model = one_weight(optimizer)
    step = training_step(model, {"y": (1.0, "squared")})
    scale = float(optimizer.dynamic_scale)
    assert step(*batch(1e17)) == {"y": pytest.approx(1e34, rel=1e-3)}  # times 2¹⁵ beyond single precision
    assert model.weights[0].numpy() == 1 and float(optimizer.dynamic_scale) == scale / 2 and optimizer.iterations == 0
    assert step(*batch(1)) == {"y": 1}
    assert model.weights[0].numpy()[0, 0] == pytest.approx(0.8) and optimizer.iterations == 1


# --- Half precision ---
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_weights_attention_and_answers_stay_in_single_precision(precision):
    before = keras.config.dtype_policy()
    model = network(precision)
    assert keras.config.dtype_policy() == before
    assert {variable.dtype for variable in model.variables} == {"float32"}
    computed = {layer.name: layer.compute_dtype for layer in model.layers}
    assert computed["conv1_conv"] == computed["yaw_conv5_block1_2_conv"] == precision.removeprefix("mixed_")
    single = {name for name, dtype in computed.items() if dtype == "float32"}
    for part in ("self_attention", "regions", "attentional_pooling", "weighted_attention", "bn"):
        assert {f"{axis}_{part}" for axis in AXES} <= single
    assert {"yaw", "pitch", "roll"} <= single


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_losses_and_updates_stay_in_single_precision_too(precision):
    with computing_in(precision):
        model = one_weight(keras.optimizers.SGD(0.1))
    losses = training_step(model, {"y": (1.0, "squared")})(*batch(1, target=0.9999))  # in half precision 1
    assert losses["y"] == pytest.approx(1e-8, rel=1e-2)
    assert model.weights[0].numpy()[0, 0] == pytest.approx(1 - 0.1 * 2 * 1e-4, abs=1e-6)


@pytest.mark.slow
def test_a_step_in_float16_has_the_losses_and_gradients_of_single_precision():
    losses, moved = [], []
    for precision in ("float32", "mixed_float16"):
        model = network(precision)
        if precision == "mixed_float16":
            model.optimizer.dynamic_scale.assign(64.0)  # at the first one these gradients overflow
        before = [weight.numpy() for weight in model.trainable_variables]
        losses.append(list(training_step(model)(CROPS, TARGETS).values()))
        pairs = zip(model.trainable_variables, before, strict=True)
        moved.append(np.concatenate([(weight.numpy() - start).ravel() for weight, start in pairs]))
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)
    assert np.corrcoef(*moved)[0, 1] > 0.7  # RMSprop's first step is nearly the gradients' sign
    assert int(model.optimizer.iterations) == 1
