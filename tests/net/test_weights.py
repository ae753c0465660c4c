"""Weight files: saved ones load with one call, anything else is refused by name."""

import io
import json
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from rafa.net.backend import keras
from rafa.net.keras224 import RMSprop
from rafa.net.weights import load_into, save_half
from rafa.pose import AXES
from rafa.script import InputError
from rafa_model import BACKBONES, build_rafa_net, load_rafa_net

layers = keras.layers


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3)).astype("uint8")


def saved(model, path):
    """Save a model as `path`, of either suffix."""
    model.save(path) if path.suffix == ".keras" else model.save_weights(path)
    return path


# --- Files that load --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_saved_network_loads_with_one_call(model, crops, suffix, tmp_path):
    loaded = load_rafa_net(saved(model, tmp_path / f"network{suffix}"))
    for axis, expected in model.predict(crops, verbose=0).items():
        np.testing.assert_array_equal(loaded.predict(crops, verbose=0)[axis], expected)


def test_keras_loads_the_saved_network_without_custom_objects(model, crops, weights):
    loaded = keras.saving.load_model(weights)
    np.testing.assert_array_equal(loaded.predict(crops, verbose=0)["yaw"], model.predict(crops, verbose=0)["yaw"])


def test_a_file_of_half_the_size_holds_kernels_in_half_precision_and_vectors_as_they_are(model, tmp_path):
    half, whole = tmp_path / "half.weights.h5", saved(model, tmp_path / "whole.weights.h5")
    save_half(model, half)
    assert half.stat().st_size < 0.58 * whole.stat().st_size
    with h5py.File(half) as file:
        assert [file[f"layers/conv2d/vars/{number}"].dtype for number in (0, 1)] == ["float16", "float32"]
    loaded = load_rafa_net(half)
    for ours, theirs in zip(model.weights, loaded.weights, strict=True):
        expected = ours.numpy().astype("float16").astype("float32") if ours.ndim > 1 else ours.numpy()
        np.testing.assert_array_equal(theirs.numpy(), expected)


# --- Files that are refused -------------------------------------------------------------------------------------------
def refused(path, message, read=load_rafa_net):
    """The file is refused by name with one short line, and nothing is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=message) as error:
            read(path)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 2 * len(str(path)) + 500
    assert path.name in str(error.value)


def rewritten(path, entry, change):
    """Change an entry of a `.keras` file: bytes → bytes."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries[entry] = change(entries[entry])
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def with_weights(model, path, change):
    """Save a model as `path` with its weights, an HDF5 file, changed."""

    def changed(content):
        file = io.BytesIO(content)
        with h5py.File(file, "r+") as weights:
            change(weights)
        return file.getvalue()

    saved(model, path)
    if path.suffix == ".keras":
        rewritten(path, "model.weights.h5", changed)
    else:
        path.write_bytes(changed(path.read_bytes()))
    return path


def with_layers(model, path, change):
    """Save a model as `path` with what its config says of its layers changed."""

    def changed(content):
        config = json.loads(content)
        change(config["config"]["layers"])
        return json.dumps(config)

    rewritten(saved(model, path), "config.json", changed)
    return path


@pytest.mark.parametrize(
    ("suffix", "message"),
    [(".keras", "'rafa_net_tiny', this one is 'rafa_net_small'"), (".weights.h5", "rafa_net_small")],
)
def test_weights_of_another_backbone_are_refused(model, suffix, message, tmp_path):
    refused(saved(model, tmp_path / f"network{suffix}"), message, lambda path: build_rafa_net("small", path))


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_another_network_is_refused(suffix, tmp_path):
    crop = keras.Input((4,), name="crop")
    network = keras.Model(crop, layers.Dense(1)(crop), name="someone_elses")
    refused(saved(network, tmp_path / f"other{suffix}"), f"another network than .*{', '.join(BACKBONES)}")


def test_a_file_that_would_run_code_is_refused(tmp_path):
    crop = keras.Input((4,))
    model = keras.Model(crop, layers.Lambda(lambda x: x + 1)(crop), name="rafa_net_tiny")
    model.save(tmp_path / "lambda.keras")
    refused(tmp_path / "lambda.keras", "another version of rafa_net_tiny")


def set_in(layer_name, **values):
    """A change of a saved config: settings of one layer."""

    def change(layers):
        next(layer for layer in layers if layer["config"]["name"] == layer_name)["config"] |= values

    return change


def class_of_the_first_relu(layers):
    next(layer for layer in layers if layer["class_name"] == "ReLU")["class_name"] = "Softmax"


def exchange_two(layers):
    names = [layer["config"]["name"] for layer in layers]
    yaw, pitch = names.index("yaw_bn"), names.index("pitch_bn")
    layers[yaw], layers[pitch] = layers[pitch], layers[yaw]


@pytest.mark.parametrize(
    "change",
    [
        set_in("conv1_conv", strides=[2, 2]),
        set_in("conv1_conv", padding="same"),
        set_in("yaw_bn", epsilon=1e-5),
        set_in("yaw_pool2_2", name="yaw_pool2_1"),
        class_of_the_first_relu,
        exchange_two,
        lambda layers: layers.pop(),
    ],
)
def test_weights_of_the_same_shapes_from_another_network_are_refused(change, model, tmp_path):
    refused(with_layers(model, tmp_path / "other.keras", change), "another version of rafa_net_tiny")


def test_a_changed_bit_is_noticed(weights, tmp_path):
    content = bytearray(Path(weights).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "bit.keras").write_bytes(content)
    refused(tmp_path / "bit.keras", "checksum|CRC")


def put(name, value):
    def change(file):
        file[name][...] = value

    return change


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.pop("layers/conv2d_3/vars/1"), "cannot be loaded"),
        (put("layers/conv2d_3/vars/0", np.nan), "no finite numbers for .*kernel"),
        (put("layers/batch_normalization_2/vars/3", np.inf), "no finite numbers for .*moving_variance"),
    ],
)
def test_missing_weights_and_such_that_are_not_finite_are_refused(change, message, suffix, model, tmp_path):
    path = with_weights(model, tmp_path / f"bad{suffix}", change)
    refused(path, message, lambda path: build_rafa_net("tiny", path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.keras", None, "no such file"),
        ("network.pkl", b"cos\nsystem", "damaged, or no"),
        ("broken.keras", b"not a zip", "damaged, or no"),
        ("broken.weights.h5", b"not HDF5", "damaged, or no"),
    ],
)
def test_unusable_files_are_refused_by_name(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, message)


# --- Checkpoints, with the state of the optimizer ---------------------------------------------------------------------
@pytest.fixture
def compiled():
    """A tiny network whose optimizer has made no step, as where each one of half precision has overflowed."""
    network = build_rafa_net("tiny", weights=None)
    network.compile(RMSprop())
    network.optimizer.build(network.trainable_variables)
    return network


def test_a_checkpoint_before_the_first_step_is_loaded(compiled, tmp_path):
    load_into(compiled, saved(compiled, tmp_path / "last.keras"))


@pytest.mark.parametrize("lost", ["optimizer", "optimizer/vars/7"])
def test_a_checkpoint_without_all_of_the_optimizer_s_state_is_refused(compiled, lost, tmp_path):
    path = with_weights(compiled, tmp_path / "last.keras", lambda file: file.pop(lost))
    refused(path, "optimizer", lambda path: load_into(compiled, path))


# --- ImageNet ---------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """ResNet-50 with random weights, and its file in the `.h5` form in which keras.applications publishes them."""
    source = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(224, 224, 3))
    path = tmp_path_factory.mktemp("imagenet") / "resnet50_notop.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in source.layers]
        for layer in source.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{index}_{weight.name}" for index, weight in enumerate(layer.weights)]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name] = value
    return source, path


def test_imagenet_weights_reach_the_trunk_and_every_branch_by_name(imagenet):
    source, path = imagenet
    model = build_rafa_net("resnet50", weights=path)
    for theirs, ours in [("conv1_conv", "conv1_conv"), ("conv4_block6_3_bn", "conv4_block6_3_bn")] + [
        ("conv5_block1_0_conv", f"{axis}_conv5_block1_0_conv") for axis in AXES
    ]:
        pairs = zip(source.get_layer(theirs).get_weights(), model.get_layer(ours).get_weights(), strict=True)
        assert all(np.array_equal(*pair) for pair in pairs)
    with pytest.raises(InputError, match="do not fit rafa_net_tiny"):
        build_rafa_net("tiny", weights=path)


def test_imagenet_layers_that_find_no_place_are_refused(imagenet):
    model = build_rafa_net("resnet50", weights=None)
    trunk = keras.Model(model.input, model.get_layer("conv4_block6_out").output, name=model.name)
    with pytest.raises(InputError, match="found no place in rafa_net_resnet50: conv5_block1_0_bn"):
        load_into(trunk, imagenet[1])


def test_a_failed_download_says_how_to_give_a_file(monkeypatch):
    def refuse(**_):
        raise OSError("network unreachable")

    monkeypatch.setattr(keras.applications, "ResNet50", refuse)
    with pytest.raises(InputError, match=r"(?s)network unreachable.*notop\.h5"):
        build_rafa_net("resnet50", weights="imagenet")
