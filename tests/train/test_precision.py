"""Training in half precision: what is chosen, what stays in single precision, and the scale of the loss."""

import numpy as np
import pytest

from rafa.net.backend import computing_in, keras, tf
from rafa.pose import AXES
from rafa.train import devices as precision
from rafa.train.devices import FIRST_SCALE, Devices, LossScale, choose_precision, loss_scale_for
from rafa.train.recipe import compile_rafa_net, training_step
from rafa_model import build_rafa_net


def test_the_choice_is_said(monkeypatch, capsys):
    assert choose_precision(False, {}) == "float32" and capsys.readouterr().out == ""
    for has, text in [(True, "bfloat16, which this processor computes"), (False, "has no instructions: slow")]:
        monkeypatch.setattr(precision, "_has_bfloat16", lambda has=has: has)
        assert choose_precision(True, {}) == "mixed_bfloat16" and text in capsys.readouterr().out
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])
    assert choose_precision(True, {}) == "mixed_float16" and "with a scaled loss" in capsys.readouterr().out
    assert choose_precision(True, {"precision": "mixed_bfloat16"}) == "mixed_bfloat16"
    assert "bfloat16, in which the run was started" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["mixed_float16", "mixed_bfloat16"])
def test_weights_attention_and_answers_stay_in_single_precision(kind):
    before = keras.config.dtype_policy()
    with computing_in(kind):
        model = build_rafa_net("tiny", weights=None)
    assert keras.config.dtype_policy() == before
    assert {variable.dtype for variable in model.variables} == {"float32"}
    computed = {layer.name: layer.compute_dtype for layer in model.layers}
    assert computed["conv1_conv"] == computed["yaw_conv5_block1_2_conv"] == kind.removeprefix("mixed_")
    single = {name for name, dtype in computed.items() if dtype == "float32"}
    for part in ("self_attention", "regions", "attentional_pooling", "weighted_attention", "bn"):
        assert {f"{axis}_{part}" for axis in AXES} <= single
    assert {"yaw", "pitch", "roll"} <= single


@pytest.mark.slow
def test_a_step_in_float16_has_the_losses_and_gradients_of_single_precision():
    rng = np.random.default_rng(0)
    crops = rng.integers(0, 256, (4, 224, 224, 3)).astype("uint8")
    true = {axis: rng.uniform(-1, 1, (4, 1)).astype("float32") for axis in AXES}
    found = []
    for kind in ("float32", "mixed_float16"):
        keras.utils.set_random_seed(5)
        with computing_in(kind):
            model = build_rafa_net("tiny", weights=None)
            optimizer = compile_rafa_net(model)
            scale = loss_scale_for(optimizer, kind)
        if scale:
            scale.factor.assign(64.0)  # at the first one these gradients overflow
        before = [weight.numpy() for weight in model.trainable_variables]
        losses = training_step(model, loss_scale=scale)(crops, true)
        moved = [weight.numpy() - start for weight, start in zip(model.trainable_variables, before, strict=True)]
        found.append(
            (np.array([float(losses[axis]) for axis in AXES]), np.concatenate([each.ravel() for each in moved]))
        )
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=0.05)
    assert np.corrcoef(found[0][1], found[1][1])[0, 1] > 0.7  # RMSprop's first step is nearly the gradients' sign
    assert int(optimizer.iterations) == 1 and float(scale.factor) == 64


def unscaled(scale, *gradients):
    return [gradient.numpy().tolist() for gradient in scale.unscaled([tf.constant(each) for each in gradients], 1)]


def test_a_loss_scale_halves_on_overflow_and_doubles_after_many_good_steps(monkeypatch):
    monkeypatch.setattr(precision, "GROWTH_STEPS", 3)
    weight = keras.Variable([1.0])
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build([weight])
    scale = LossScale(optimizer)
    assert unscaled(scale, [FIRST_SCALE], [2 * FIRST_SCALE]) == [[1], [2]]
    assert unscaled(scale, [1.0], [np.inf]) == unscaled(scale, [np.nan], [1.0]) == [[0], [0]]
    assert float(scale.factor) == FIRST_SCALE / 4 and float(scale.steps) == 0
    for _ in range(3):
        assert unscaled(scale, [FIRST_SCALE / 4]) == [[1]]
    assert float(scale.factor) == FIRST_SCALE / 2 and float(scale.steps) == 0
    assert scale.factor in optimizer.variables  # so it is saved and resumed


def test_an_overflow_on_one_of_two_devices_skips_the_step_on_both(two_devices):
    (kernel, factor, steps), (moved, kept, counted) = two_devices["overflow"]
    assert kernel == [[[1]], [[1]]] and factor == [FIRST_SCALE / 2] * 2 and steps == [0, 0]
    np.testing.assert_allclose(moved, [[[0.8]], [[0.8]]], rtol=1e-6)
    assert kept == factor and counted == [1, 1]


def test_xla_changes_no_number():
    found = []
    for xla in (False, True):
        x = keras.Input((2,))
        model = keras.Model(x, {"angle": keras.layers.Dense(1, kernel_initializer="ones")(x)})
        model.compile(keras.optimizers.SGD(0.1))
        step = training_step(model, {"angle": (1.0, "squared")}, xla=xla)
        batch = np.float32([[1, 2], [3, 4]]), {"angle": np.float32([[1], [2]])}
        found.append([float(step(*batch)["angle"]) for _ in range(2)])
    assert found[0][0] == ((3 - 1) ** 2 + (7 - 2) ** 2) / 2
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)


def test_one_device_is_left_alone():
    devices = Devices()
    gradients = [tf.constant([3.0])]
    assert devices.clipped_together(gradients, 1.0) is gradients and devices.count == 1
    devices.averaging(None)()
