"""The network: shapes and counts, hand arithmetic, and parity with the released code."""

from pathlib import Path

import numpy as np
import pytest
from helpers.whole_network import CANCELLED, give_weights, weights_by_name

import rafa_model
from rafa.net.backend import keras, ops
from rafa.net.inference import predict_angles
from rafa.net.keras224 import BatchNormalization
from rafa.pose import AXES, CHANNEL_MEANS
from rafa.script import InputError
from rafa.train.recipe import compile_rafa_net, compile_with, training_step
from rafa_model import SelfAttention, SpectralConv1x1, build_rafa_net

layers = keras.layers

PARITY = Path(__file__).parents[1] / "parity"


@pytest.fixture(scope="module")
def resnet50():
    return build_rafa_net("resnet50", weights=None)


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3)).astype("uint8")


# --- Shapes and counts ---


def test_each_network_has_the_number_of_parameters_by_which_its_files_are_recognised(resnet50, model):
    networks = {"resnet50": resnet50, "tiny": model, "small": build_rafa_net("small", weights=None)}
    sizes = {name: network.count_params() for name, network in networks.items()}
    assert sizes == {name: backbone.parameters for name, backbone in rafa_model.BACKBONES.items()}
    assert sizes["resnet50"] == 69_759_052, "the paper's"


def test_trunk_and_branches_have_their_number_of_parameters(resnet50):
    trunk = keras.Model(resnet50.input, resnet50.get_layer("conv4_block6_out").output)
    assert trunk.count_params() == 8_589_184
    for axis in AXES:
        branch = [layer for layer in resnet50.layers if layer.name == axis or layer.name.startswith(f"{axis}_")]
        assert sum(layer.count_params() for layer in branch) == 20_389_956


@pytest.mark.parametrize(("name", "channels"), [("model", 128), ("resnet50", 2048)])
def test_shapes_follow_the_paper(name, channels, request):
    network = request.getfixturevalue(name)
    for axis in AXES:
        shapes = [
            network.get_layer(f"{axis}_{stage}").output for stage in ("self_attention", "regions", "weighted_attention")
        ]
        assert shapes[0][0].shape == (None, 7, 7, channels)
        assert shapes[0][1].shape == (None, 49, 49)
        assert shapes[1].shape == (None, 35, channels)
        assert shapes[2][0].shape == (None, channels)
        assert network.output[axis].shape == (None, 1)


def test_batch_normalisation_is_the_authors_everywhere(resnet50):
    norms = [layer for layer in resnet50.layers if isinstance(layer, layers.BatchNormalization)]
    assert {type(layer) for layer in norms} == {BatchNormalization} and len(norms) == 76
    assert {(layer.epsilon, layer.momentum) for layer in norms} == {(1e-3, 0.99)}


def test_the_small_networks_maps_are_bounded_in_prediction_alone(crops):
    small = build_rafa_net("small", weights=None)
    compile_rafa_net(small, 1e-3)  # which counts the steps for batch normalisation
    for norm in (layer for layer in small.layers if isinstance(layer, BatchNormalization)):
        norm.gamma.assign(norm.gamma * 50)
    maps = {layer.name: layer.output for layer in small.layers if layer.name.endswith(("_1_relu", "_out"))}
    predicted, trained = (keras.Model(small.input, maps)(crops, training=mode) for mode in (False, True))
    assert len(maps) == 2 * (2 + 2 + 3)
    assert {float(ops.max(each)) for each in predicted.values()} == {6.0}
    assert min(float(ops.max(each)) for each in trained.values()) > 6


def test_outputs_are_one_angle_per_axis_and_crop_whatever_the_batch(model, crops):
    together = model.predict(crops, verbose=0)
    alone = model.predict(crops[1:2], verbose=0)
    assert len({float(together[axis][0, 0]) for axis in AXES}) == 3, "the axes share no branch"
    for axis in AXES:
        assert together[axis].shape == (3, 1)
        np.testing.assert_allclose(alone[axis][0], together[axis][1], rtol=1e-4, atol=1e-5)


def test_an_unknown_backbone_is_refused():
    with pytest.raises(InputError, match=r"'resnet18' is unknown; choose one of resnet50, tiny"):
        build_rafa_net("resnet18")


def test_the_trunk_and_conv5_are_the_resnet50_of_keras_applications(resnet50, crops):
    source = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(224, 224, 3))
    for layer in source.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.epsilon = rafa_model.BATCH_NORM_EPSILON
    means = np.array(CHANNEL_MEANS, "float32")
    for layer in resnet50.layers:
        name = layer.name.removeprefix("pitch_")
        if layer.weights and name.startswith("conv"):
            layer.set_weights(source.get_layer(name.removeprefix("yaw_").removeprefix("roll_")).get_weights())
    ours = keras.Model(resnet50.input, resnet50.get_layer("pitch_conv5_block3_out").output)
    np.testing.assert_allclose(
        ours.predict(crops[:1], verbose=0), source.predict(crops[:1] - means, verbose=0), rtol=1e-3, atol=1e-3
    )


# --- Hand arithmetic ---


def test_self_attention_starts_as_the_identity():
    x = np.random.default_rng(0).normal(size=(2, 7, 7, 16)).astype("float32")
    out, attention = SelfAttention(2)(x)
    np.testing.assert_array_equal(out, x)
    np.testing.assert_allclose(np.sum(attention, axis=-1), 1, atol=1e-6)


def test_an_all_ones_two_by_two_kernel_has_sigma_two():
    layer = SpectralConv1x1(2)
    layer.build((None, 1, 1, 2))
    layer.set_weights([np.ones((1, 1, 2, 2)), np.zeros(2), np.array([[1.0, 0.0]])])
    np.testing.assert_allclose(layer.normalised_kernel()[0], np.full((1, 1, 2, 2), 0.5), atol=1e-6)


def test_spectral_norm_is_applied_at_inference_and_its_vector_moves_in_training_only():
    layer = SpectralConv1x1(3)
    x = np.random.default_rng(0).normal(size=(1, 2, 2, 5)).astype("float32")
    layer(x)
    before = np.array(layer.u)
    output = layer(x, training=False)
    np.testing.assert_array_equal(layer.u, before)
    assert not np.allclose(output, x @ np.array(layer.kernel)[0, 0])
    layer(x, training=True)
    assert not np.allclose(layer.u, before)


def test_after_many_power_iterations_sigma_is_the_largest_singular_value():
    layer = SpectralConv1x1(4)
    layer.build((None, 1, 1, 6))
    for _ in range(200):
        layer.u.assign(layer.normalised_kernel()[1])
    singular_values = np.linalg.svd(np.reshape(layer.normalised_kernel()[0], (6, 4)), compute_uv=False)
    assert singular_values[0] == pytest.approx(1, abs=1e-5)


# --- Parity with the released code ---


@pytest.fixture(scope="module")
def parity():
    return dict(np.load(PARITY / "axis_head.npz"))


# A bias that is the same for everything a softmax compares cannot change the outcome: its gradient is 0, what is found
# is rounding, and RMSprop, which divides a gradient by its size, turns rounding into steps of full length.
ROUNDING_NOISE = {"f.bias", "ap.ap_Add_ba", "wa.wa_b"}


def test_the_biases_whose_gradient_is_rounding_do_not_reach_the_output(parity):
    model = _head(parity)
    before = model(parity["input"])["yaw"]
    for name in ROUNDING_NOISE:
        _variables(model)[name].assign_add(np.ones(parity[f"weights.{name}"].shape))
    np.testing.assert_allclose(model(parity["input"])["yaw"], before, atol=1e-5)


def _head(parity):
    """One axis head on a 7×7×64 map with the released code's weights."""
    features = keras.Input((7, 7, 64))
    model = keras.Model(features, {"yaw": rafa_model.axis_head(features, "yaw")})
    for name, variable in _variables(model).items():
        variable.assign(parity[f"weights.{name}"])
    return model


def _variables(model):
    """The head's variables by the names of the parity file."""
    prefixes = {"pool": "ap.ap_Add_", "weigh": "wa.wa_", "dense": "out."}
    named = {}
    for name, variable in weights_by_name(model).items():
        _, *part, last = name.split("/")
        their_last = "sn" if last == "u" else last
        named[prefixes.get(part[0], f"{part[0]}.") + their_last if part else "sa.sa_b"] = variable
    return named


def test_every_intermediate_of_the_head_meets_the_released_code(parity):
    model = _head(parity)
    attention = model.get_layer("yaw_self_attention")
    stages = {
        "self_attention": attention.output[0],
        "regions": model.get_layer("yaw_regions").output,
        "attentional_pooling": model.get_layer("yaw_attentional_pooling").output[0],
        "weighted_attention": model.get_layer("yaw_weighted_attention").output[0],
        "batch_norm": model.get_layer("yaw_bn").output,
        "output": model.output["yaw"],
    }
    computed = keras.Model(model.input, stages)(parity["input"], training=False)
    computed |= {name: getattr(attention, name)(parity["input"]) for name in ("f", "g", "h")}
    expected = {key.removeprefix("inference."): parity[key] for key in parity if key.startswith("inference.")}
    assert set(computed) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(computed[name], value, atol=1e-5, err_msg=name)


def gradients_of_a_step(model, inputs, targets):
    """The losses of a training step, and the gradient of every weight by its path."""
    optimizer = keras.optimizers.SGD(1.0, momentum=0.5)  # its momenta after a step are the gradients, negative
    compile_with(model, optimizer, "float32")
    losses = training_step(model, dict.fromkeys(targets, (1.0, "squared")))(inputs, targets)
    pairs = zip(model.trainable_variables, optimizer.momentums, strict=True)
    return losses, {weight.path: -momentum.numpy() for weight, momentum in pairs}


def test_gradients_meet_the_released_code(parity):
    model = _head(parity)
    compile_rafa_net(model)
    np.testing.assert_allclose(model(parity["input"], training=True)["yaw"], parity["train.output"], atol=1e-5)
    model = _head(parity)  # as before that call, which moved its averages
    named = {name: variable for name, variable in _variables(model).items() if variable.trainable}
    loss, gradients = gradients_of_a_step(model, parity["input"], {"yaw": parity["target"]})
    np.testing.assert_allclose(loss["yaw"], parity["train.loss"], rtol=1e-5)
    assert {f"train.gradient.{name}" for name in named} == {key for key in parity if key.startswith("train.gradient.")}
    for name, variable in named.items():
        expected, gradient = parity[f"train.gradient.{name}"], gradients[variable.path]
        if name in ROUNDING_NOISE:
            assert max(np.abs(gradient).max(), np.abs(expected).max()) < 1e-6, name
        else:
            assert np.linalg.norm(gradient - expected) <= 1e-4 * np.linalg.norm(expected), name


def test_five_training_steps_meet_the_released_code(parity):
    model = _head(parity)
    compile_rafa_net(model)
    step, norm = training_step(model, {"yaw": (1.0, "squared")}), model.get_layer("yaw_bn")
    for index in range(5):
        losses = step(parity["input"], {"yaw": parity["target"]})
        np.testing.assert_allclose(losses["yaw"], parity["rmsprop.losses_of_5_steps"][index], atol=1e-4)
        for name in ("moving_mean", "moving_variance"):
            expected = parity[f"rmsprop.{name}_after_each_step"][index]
            np.testing.assert_allclose(getattr(norm, name).numpy(), expected, atol=1e-4, err_msg=f"{name}, {index + 1}")
    for name, variable in _variables(model).items():
        if name not in ROUNDING_NOISE:
            expected = parity[f"rmsprop.weights_after_5_steps.{name}"]
            np.testing.assert_allclose(variable.numpy(), expected, atol=1e-4, err_msg=name)
    answer = model(parity["input"], training=False)["yaw"]
    np.testing.assert_allclose(answer, parity["rmsprop.inference_after_5_steps"], atol=1e-4)


# --- Parity of the whole network, by weights defined by name (tests/parity/README.md) ---
def test_the_whole_network_meets_the_released_code(resnet50):
    """Loosely, because a random network amplifies rounding in single precision; test_whole_network.py is sharp."""
    parity, named = dict(np.load(PARITY / "network.npz")), give_weights(resnet50)
    assert sum(int(np.prod(weight.shape)) for weight in named.values()) == 69_759_052
    crops = parity["images_rgb_every_32nd_pixel"].repeat(32, axis=1).repeat(32, axis=2)
    np.testing.assert_allclose(predict_angles(resnet50, crops), parity["angles"], atol=5e-5)
    targets = {axis: parity["targets"][:, [column]].astype("float32") for column, axis in enumerate(AXES)}
    losses, gradients = gradients_of_a_step(resnet50, crops, targets)
    np.testing.assert_allclose([losses[axis] for axis in AXES], parity["training_losses"], rtol=2e-3)
    names = [name for name in parity["gradient_names"] if not name.endswith(CANCELLED)]
    expected = dict(zip(parity["gradient_names"], parity["gradient_norms"], strict=True))
    off = [abs(np.linalg.norm(gradients[named[name].path]) / expected[name] - 1) for name in names]
    assert max(off) < 0.1 and np.median(off) < 6e-3


def test_the_network_is_fed_what_the_released_code_feeds_it(model):
    pixels = dict(np.load(PARITY / "preprocess.npz"))
    rgb = pixels["image_bgr"][None, ..., ::-1].astype("float32")
    np.testing.assert_allclose(model.get_layer("subtract_means")(rgb)[0], pixels["network_input"], atol=1e-4)
