"""The network: shapes and counts, hand arithmetic, and parity with the released code."""

import zlib
from pathlib import Path

import numpy as np
import pytest

import rafa_model
from rafa.net.backend import computing_in, keras, tf
from rafa.net.keras224 import BatchNormalization
from rafa.pose import AXES, CHANNEL_MEANS
from rafa.script import InputError
from rafa.train.recipe import compile_rafa_net
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


def test_outputs_are_one_angle_per_axis_and_crop(model, crops):
    angles = model.predict(crops, verbose=0)
    assert set(angles) == set(AXES)
    assert all(angle.shape == (3, 1) and np.isfinite(angle).all() for angle in angles.values())


def test_a_batch_of_one_equals_a_batch_of_three(model, crops):
    together = model.predict(crops, verbose=0)
    alone = model.predict(crops[1:2], verbose=0)
    for axis in AXES:
        np.testing.assert_allclose(alone[axis][0], together[axis][1], rtol=1e-4, atol=1e-5)


def test_the_axes_do_not_share_branch_weights(model, crops):
    angles = model.predict(crops, verbose=0)
    assert len({float(angles[axis][0, 0]) for axis in AXES}) == 3


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
    attention = model.get_layer("yaw_self_attention")
    named = {"sa.sa_b": attention.gamma}
    for name in ("f", "g", "h"):
        convolution = getattr(attention, name)
        named |= {f"{name}.kernel": convolution.kernel, f"{name}.bias": convolution.bias, f"{name}.sn": convolution.u}
    pooling = model.get_layer("yaw_attentional_pooling")
    named |= {f"ap.ap_Add_{key}": getattr(pooling, key) for key in ("Wt", "Wx", "bh", "Wa", "ba")}
    weighted = model.get_layer("yaw_weighted_attention")
    named |= {"wa.wa_W": weighted.W, "wa.wa_b": weighted.b}
    norm = model.get_layer("yaw_bn")
    named |= {f"bn.{key}": getattr(norm, key) for key in ("gamma", "beta", "moving_mean", "moving_variance")}
    dense = model.get_layer("yaw")
    return named | {"out.kernel": dense.kernel, "out.bias": dense.bias}


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
    found = keras.Model(model.input, stages)(parity["input"], training=False)
    found |= {name: getattr(attention, name)(parity["input"]) for name in ("f", "g", "h")}
    expected = {key.removeprefix("inference."): parity[key] for key in parity if key.startswith("inference.")}
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


def _training_mode(model, inputs, targets):
    """Outputs, losses and the gradient of the summed loss of a compiled model in training mode."""
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        losses = {axis: tf.reduce_mean((outputs[axis] - targets[axis]) ** 2) for axis in outputs}
        loss = tf.add_n(list(losses.values()))
    variables = model.trainable_variables
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    return outputs, losses, {variable.path: gradient for variable, gradient in zip(variables, gradients, strict=True)}


def _compiled(model, axes):
    """`compile_rafa_net` for a model of some of the axes."""
    optimizer = compile_rafa_net(model)
    model.compile(optimizer, loss=dict.fromkeys(axes, "mean_squared_error"), jit_compile=False)
    return model


def test_gradients_meet_the_released_code(parity):
    model = _compiled(_head(parity), ["yaw"])
    named = {name: variable for name, variable in _variables(model).items() if variable.trainable}
    output, loss, gradients = _training_mode(model, parity["input"], {"yaw": parity["target"]})
    np.testing.assert_allclose(output["yaw"], parity["train.output"], atol=1e-5)
    np.testing.assert_allclose(loss["yaw"], parity["train.loss"], rtol=1e-5)
    assert {f"train.gradient.{name}" for name in named} == {key for key in parity if key.startswith("train.gradient.")}
    for name, variable in named.items():
        expected, gradient = parity[f"train.gradient.{name}"], np.asarray(gradients[variable.path])
        if name in ROUNDING_NOISE:
            assert max(np.abs(gradient).max(), np.abs(expected).max()) < 1e-6, name
        else:
            assert np.linalg.norm(gradient - expected) <= 1e-4 * np.linalg.norm(expected), name


def test_five_training_steps_meet_the_released_code(parity):
    model = _compiled(_head(parity), ["yaw"])
    norm, losses = model.get_layer("yaw_bn"), []
    for step in range(5):
        model.reset_metrics()  # Keras before 3.13 hands out the mean over batches
        losses.append(float(model.train_on_batch(parity["input"], {"yaw": parity["target"]})))
        for name in ("moving_mean", "moving_variance"):
            expected = parity[f"rmsprop.{name}_after_each_step"][step]
            np.testing.assert_allclose(getattr(norm, name).numpy(), expected, atol=1e-4, err_msg=f"{name}, {step + 1}")
    np.testing.assert_allclose(losses, parity["rmsprop.losses_of_5_steps"], atol=1e-4)
    for name, variable in _variables(model).items():
        if name not in ROUNDING_NOISE:
            expected = parity[f"rmsprop.weights_after_5_steps.{name}"]
            np.testing.assert_allclose(variable.numpy(), expected, atol=1e-4, err_msg=name)
    answer = model(parity["input"], training=False)["yaw"]
    np.testing.assert_allclose(answer, parity["rmsprop.inference_after_5_steps"], atol=1e-4)


# --- Parity of the whole network, by weights defined by name (tests/parity/README.md) ---

POOLING_WEIGHTS = ("Wt", "Wx", "bh", "Wa", "ba")


def _canonical_names(network):
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
            named |= {f"{axis}/pool/{key}": getattr(layer, key) for key in POOLING_WEIGHTS}
        elif name == "weighted_attention":
            named |= {f"{axis}/weigh/{key}": getattr(layer, key) for key in ("W", "b")}
        elif layer.name in AXES:
            named |= {f"{axis}/dense/{weight.name}": weight for weight in layer.weights}
        else:
            named |= {f"{where}/{weight.name}": weight for weight in layer.weights}
    return named


def _given(name, shape):
    """The value of a weight by its canonical name."""
    rng, last = np.random.default_rng(zlib.crc32(f"given/{name}".encode())), name.rsplit("/", 1)[1]
    if last == "moving_variance":
        return rng.uniform(0.5, 1.5, shape)
    if last == "gamma":
        return rng.uniform(0.4, 0.9, shape) if np.prod(shape) > 1 else np.full(shape, 0.5)
    if last in ("beta", "moving_mean", "bias", "b", "ba", "bh"):
        return 0.1 * rng.normal(size=shape)
    if last == "u":
        return rng.normal(size=shape)
    return rng.normal(size=shape) * np.sqrt(1 / np.prod(shape[:-1]))


def _whole_network(model):
    """The parity numbers, the network with the weights they were computed with, its crops and targets."""
    parity = dict(np.load(PARITY / "network.npz"))
    named, dtype = _canonical_names(model), keras.config.floatx()
    assert sum(int(np.prod(weight.shape)) for weight in named.values()) == 69_759_052
    for name, weight in named.items():
        weight.assign(_given(name, tuple(weight.shape)).astype("float32").astype(dtype))
    crops = parity["images_rgb_every_32nd_pixel"].repeat(32, axis=1).repeat(32, axis=2).astype(dtype)
    targets = {axis: parity["targets"][:, [i]].astype(dtype) for i, axis in enumerate(AXES)}
    return parity, named, crops, targets


def _off(found, expected):
    return np.abs(np.array([found[axis] for axis in AXES]) / expected - 1).max()


def _in_training(model, parity, named, crops, targets):
    """How far angles, losses (relative) and norms of gradients (relative, by name) lie off in training mode."""
    outputs, losses, gradients = _training_mode(_compiled(model, AXES), crops, targets)
    trainable = {name: weight for name, weight in named.items() if weight.trainable}
    assert set(trainable) == set(parity["gradient_names"])
    expected = dict(zip(parity["gradient_names"], parity["gradient_norms"], strict=True))
    # Batch normalisation takes away what a bias before it adds, as a softmax does: these gradients are rounding.
    cancelled = ("_conv/bias", "f/bias", "pool/ba", "weigh/b")
    assert {name for name in trainable if expected[name] < 1e-8} == {n for n in trainable if n.endswith(cancelled)}
    norms = {name: float(tf.norm(gradients[weight.path])) for name, weight in trainable.items()}
    off = [abs(norms[name] / expected[name] - 1) for name in trainable if not name.endswith(cancelled)]
    angles = np.concatenate([outputs[axis] for axis in AXES], axis=1)
    return np.abs(angles - parity["training_angles"]).max(), _off(losses, parity["training_losses"]), off


def test_the_whole_network_meets_the_released_code(resnet50):
    parity, named, crops, targets = _whole_network(resnet50)
    angles = resnet50.predict(crops, verbose=0)
    found = np.concatenate([angles[axis] for axis in AXES], axis=1)
    np.testing.assert_allclose(found, parity["angles"], atol=5e-5)
    angles_off, losses_off, off = _in_training(resnet50, parity, named, crops, targets)
    # Single precision; the next test tells rounding from mistakes.
    assert angles_off < 1e-2 and losses_off < 2e-3 and max(off) < 0.1 and np.median(off) < 6e-3


@pytest.mark.slow
def test_the_whole_network_meets_the_released_code_in_double_precision():
    keras.config.set_floatx("float64")
    try:
        with computing_in("float64"):
            network = build_rafa_net("resnet50", weights=None)
        angles_off, losses_off, off = _in_training(network, *_whole_network(network))
    finally:
        keras.config.set_floatx("float32")
    assert angles_off < 5e-6 and losses_off < 5e-6 and max(off) < 1e-3 and np.median(off) < 2e-5


def test_the_network_is_fed_what_the_released_code_feeds_it(model):
    pixels = dict(np.load(PARITY / "preprocess.npz"))
    rgb = pixels["image_bgr"][None, ..., ::-1].astype("float32")
    np.testing.assert_allclose(model.get_layer("subtract_means")(rgb)[0], pixels["network_input"], atol=1e-4)
