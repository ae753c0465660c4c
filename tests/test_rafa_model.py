"""The network: shapes and counts, parity with the released code, saving and loading."""

import json
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import rafa_model
from data_loaders import AXES
from rafa_model import SelfAttention, SpectralConv1x1, build_rafa_net, load_rafa_net
from util.errors import InputError

PARITY = Path(__file__).parent / "parity"


@pytest.fixture(scope="module")
def tiny():
    keras.utils.set_random_seed(1)
    return build_rafa_net("tiny", weights=None)


@pytest.fixture(scope="module")
def resnet50():
    return build_rafa_net("resnet50", weights=None)


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3)).astype("uint8")


# --- Shapes and counts ---


def test_the_paper_network_has_its_number_of_parameters(resnet50):
    assert resnet50.count_params() == 69_759_052


def test_trunk_and_branches_have_their_number_of_parameters(resnet50):
    trunk = keras.Model(resnet50.input, resnet50.get_layer("conv4_block6_out").output)
    assert trunk.count_params() == 8_589_184
    for axis in AXES:
        branch = [layer for layer in resnet50.layers if layer.name == axis or layer.name.startswith(f"{axis}_")]
        assert sum(layer.count_params() for layer in branch) == 20_389_956


@pytest.mark.parametrize(("name", "channels"), [("tiny", 128), ("resnet50", 2048)])
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


def test_batch_norm_epsilon_is_the_authors_everywhere(resnet50):
    epsilons = {layer.epsilon for layer in resnet50.layers if isinstance(layer, layers.BatchNormalization)}
    assert epsilons == {1e-3}


def test_outputs_are_one_angle_per_axis_and_crop(tiny, crops):
    angles = tiny.predict(crops, verbose=0)
    assert set(angles) == set(AXES)
    assert all(angle.shape == (3, 1) and np.isfinite(angle).all() for angle in angles.values())


def test_a_batch_of_one_equals_a_batch_of_three(tiny, crops):
    together = tiny.predict(crops, verbose=0)
    alone = tiny.predict(crops[1:2], verbose=0)
    for axis in AXES:
        np.testing.assert_allclose(alone[axis][0], together[axis][1], rtol=1e-4, atol=1e-5)


def test_the_axes_do_not_share_branch_weights(tiny, crops):
    angles = tiny.predict(crops, verbose=0)
    assert len({float(angles[axis][0, 0]) for axis in AXES}) == 3


def test_an_unknown_backbone_is_refused():
    with pytest.raises(ValueError, match=r"'resnet18' is unknown; choose one of resnet50, tiny"):
        build_rafa_net("resnet18")


def test_the_trunk_and_conv5_are_the_resnet50_of_keras_applications(resnet50, crops):
    source = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(224, 224, 3))
    for layer in source.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.epsilon = rafa_model.BATCH_NORM_EPSILON
    means = np.array(rafa_model.CHANNEL_MEANS, "float32")
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
    before = model(parity["input"])
    for name in ROUNDING_NOISE:
        _variables(model)[name].assign_add(np.ones(parity[f"weights.{name}"].shape))
    np.testing.assert_allclose(model(parity["input"]), before, atol=1e-5)


def _head(parity):
    """One axis head on a 7×7×64 map with the released code's weights."""
    features = keras.Input((7, 7, 64))
    x, _ = SelfAttention(8, name="yaw_self_attention")(features)
    x = rafa_model.coarse_to_fine_pooling(x, "yaw")
    x = rafa_model.attentive_regression(x, "yaw", momentum=0.99)
    model = keras.Model(features, x)
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
        "output": model.output,
    }
    found = keras.Model(model.input, stages)(parity["input"], training=False)
    found |= {name: getattr(attention, name)(parity["input"]) for name in ("f", "g", "h")}
    expected = {key.removeprefix("inference."): parity[key] for key in parity if key.startswith("inference.")}
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


def test_gradients_meet_the_released_code(parity):
    import tensorflow as tf

    model = _head(parity)
    named = {name: variable for name, variable in _variables(model).items() if variable.trainable}
    with tf.GradientTape() as tape:
        output = model(parity["input"], training=True)
        loss = tf.reduce_mean((output - parity["target"]) ** 2)
    gradients = tape.gradient(loss, [variable.value for variable in named.values()])
    np.testing.assert_allclose(output, parity["train.output"], atol=1e-5)
    np.testing.assert_allclose(loss, parity["train.loss"], rtol=1e-5)
    assert {f"train.gradient.{name}" for name in named} == {key for key in parity if key.startswith("train.gradient.")}
    for name, gradient in zip(named, gradients, strict=True):
        expected = parity[f"train.gradient.{name}"]
        if name in ROUNDING_NOISE:
            assert max(np.abs(gradient).max(), np.abs(expected).max()) < 1e-6, name
        else:
            error = np.linalg.norm(np.asarray(gradient) - expected)
            assert error <= 1e-4 * np.linalg.norm(expected), name


def test_five_rmsprop_steps_meet_the_released_code(parity):
    model = _head(parity)
    model.compile(rafa_model.RMSprop224(), loss="mean_squared_error")
    losses = []
    for _ in range(5):
        model.reset_metrics()  # Keras before 3.13 hands out the mean over batches
        losses.append(float(model.train_on_batch(parity["input"], parity["target"])))
    np.testing.assert_allclose(losses, parity["rmsprop.losses_of_5_steps"], atol=1e-4)
    for name, variable in _variables(model).items():
        if name not in ROUNDING_NOISE:
            expected = parity[f"rmsprop.weights_after_5_steps.{name}"]
            np.testing.assert_allclose(variable, expected, atol=1e-4, err_msg=name)


def test_the_network_is_fed_what_the_released_code_feeds_it(tiny):
    pixels = dict(np.load(PARITY / "preprocess.npz"))
    rgb = pixels["image_bgr"][None, ..., ::-1].astype("float32")
    np.testing.assert_allclose(tiny.get_layer("subtract_means")(rgb)[0], pixels["network_input"], atol=1e-4)


# --- Saving and loading ---


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_saved_network_loads_with_one_call(tiny, crops, suffix, tmp_path):
    path = tmp_path / f"network{suffix}"
    tiny.save(path) if suffix == ".keras" else tiny.save_weights(path)
    loaded = load_rafa_net(path)
    for axis, expected in tiny.predict(crops, verbose=0).items():
        np.testing.assert_array_equal(loaded.predict(crops, verbose=0)[axis], expected)


def test_keras_loads_the_saved_network_without_custom_objects(tiny, crops, tmp_path):
    tiny.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded.predict(crops, verbose=0)["yaw"], tiny.predict(crops, verbose=0)["yaw"])


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_weights_of_another_backbone_are_refused(tiny, suffix, tmp_path):
    path = tmp_path / f"network{suffix}"
    tiny.save(path) if suffix == ".keras" else tiny.save_weights(path)
    with pytest.raises(InputError, match="backbone 'tiny', this network has 'resnet50'"):
        build_rafa_net("resnet50", weights=path)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    crops = keras.Input((4,))
    model = keras.Model(crops, layers.Lambda(lambda x: x + 1)(crops), name="rafa_net_tiny")
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(InputError, match="is another version of rafa_net_tiny"):
        load_rafa_net(tmp_path / "lambda.keras")


def test_another_version_of_the_network_with_the_same_weights_is_refused(tiny, tmp_path):
    def widen(config):
        stem = next(layer for layer in config["config"]["layers"] if layer["config"]["name"] == "conv1_conv")
        stem["config"]["strides"] = [2, 2]

    save_with_config(tiny, tmp_path, "older.keras", widen)
    with pytest.raises(InputError, match=r"1 layers differ, the first is 'conv1_conv' with .*\[2, 2\].* in the file"):
        load_rafa_net(tmp_path / "older.keras")


def save_with_config(model, folder, name, change):
    """Save a model and change what its config says."""
    model.save(folder / "good.keras")
    with zipfile.ZipFile(folder / "good.keras") as good, zipfile.ZipFile(folder / name, "w") as changed:
        for entry in good.namelist():
            content = good.read(entry)
            if entry == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config)
            changed.writestr(entry, content)


def test_what_a_config_says_is_never_built(tiny, crops, tmp_path):
    """A file whose config asks for a layer of somebody else's is read for its numbers alone."""

    def ask_for_something_else(config):
        config["config"]["layers"][1] |= {"module": "os", "class_name": "system", "registered_name": None}

    save_with_config(tiny, tmp_path, "evil.keras", ask_for_something_else)
    loaded = load_rafa_net(tmp_path / "evil.keras")
    np.testing.assert_array_equal(loaded.predict(crops, verbose=0)["yaw"], tiny.predict(crops, verbose=0)["yaw"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.keras", None, "no such file"),
        ("network.pkl", b"cos\nsystem", "nothing else"),
        ("broken.keras", b"not a zip", "damaged or not a file of this suite"),
        ("broken.weights.h5", b"not HDF5", "damaged or not a file of this suite"),
    ],
)
def test_unusable_files_are_refused_by_name(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        load_rafa_net(tmp_path / name)
    assert name in str(error.value)


def test_imagenet_weights_reach_the_trunk_and_every_branch_by_name(tmp_path):
    source = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(224, 224, 3))
    path = tmp_path / "resnet50_notop.h5"
    _write_legacy_weights(source, path)
    model = build_rafa_net("resnet50", weights=path)
    for theirs, ours in [("conv1_conv", "conv1_conv"), ("conv4_block6_3_bn", "conv4_block6_3_bn")] + [
        ("conv5_block1_0_conv", f"{axis}_conv5_block1_0_conv") for axis in AXES
    ]:
        for expected, found in zip(
            source.get_layer(theirs).get_weights(), model.get_layer(ours).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
    with pytest.raises(InputError, match="do not fit the backbone 'tiny'"):
        build_rafa_net("tiny", weights=path)


def _write_legacy_weights(model, path):
    """The `.h5` form in which keras.applications publishes its weights."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{index}_{weight.name}" for index, weight in enumerate(layer.weights)]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name] = value


def test_a_failed_download_says_how_to_give_a_file(monkeypatch):
    def refuse(**_):
        raise OSError("network unreachable")

    monkeypatch.setattr(keras.applications, "ResNet50", refuse)
    with pytest.raises(InputError, match=r"(?s)network unreachable.*notop\.h5"):
        build_rafa_net("resnet50", weights="imagenet")
