"""Weight files: saved ones load with one call, anything else is refused by name."""

import io
import json
import re
import warnings
import zipfile

import h5py
import numpy as np
import pytest

from rafa.net import weights as pretrained
from rafa.net import weights as weight_files
from rafa.net.backend import keras
from rafa.pose import AXES
from rafa.script import InputError
from rafa_model import build_rafa_net, load_rafa_net

layers = keras.layers


@pytest.fixture(scope="module")
def crops():
    return np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3)).astype("uint8")


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_a_saved_network_loads_with_one_call(model, crops, suffix, tmp_path):
    path = tmp_path / f"network{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    loaded = load_rafa_net(path)
    for axis, expected in model.predict(crops, verbose=0).items():
        np.testing.assert_array_equal(loaded.predict(crops, verbose=0)[axis], expected)


def test_keras_loads_the_saved_network_without_custom_objects(model, crops, tmp_path):
    model.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    np.testing.assert_array_equal(loaded.predict(crops, verbose=0)["yaw"], model.predict(crops, verbose=0)["yaw"])


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_weights_of_another_backbone_are_refused(model, suffix, tmp_path):
    path = tmp_path / f"network{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    with pytest.raises(InputError, match="backbone 'tiny', this network has 'resnet50'"):
        build_rafa_net("resnet50", weights=path)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    crops = keras.Input((4,))
    model = keras.Model(crops, layers.Lambda(lambda x: x + 1)(crops), name="rafa_net_tiny")
    model.save(tmp_path / "lambda.keras")
    with pytest.raises(InputError, match="is another version of rafa_net_tiny"):
        load_rafa_net(tmp_path / "lambda.keras")


def save_with(model, path, entry, change):
    """Save a model as a `.keras` file and change one of its entries: bytes → bytes."""
    model.save(path.with_name("good.keras"))
    with zipfile.ZipFile(path.with_name("good.keras")) as good, zipfile.ZipFile(path, "w") as changed:
        for name in good.namelist():
            content = good.read(name)
            changed.writestr(name, change(content) if name == entry else content)


def save_with_config(model, folder, name, change):
    """Save a model and change what its config says."""

    def changed(content):
        config = json.loads(content)
        change(config)
        return json.dumps(config)

    save_with(model, folder / name, "config.json", changed)


def save_with_weights(model, path, change):
    """Save a model as a `.keras` or `.weights.h5` file and change the HDF5 file of its weights."""

    def changed(content):
        file = io.BytesIO(content)
        with h5py.File(file, "r+") as weights:
            change(weights)
        return file.getvalue()

    if path.suffix == ".keras":
        save_with(model, path, "model.weights.h5", changed)
    else:
        model.save_weights(path)
        path.write_bytes(changed(path.read_bytes()))


def set_in(name, **values):
    """A change of a saved config: settings of one layer."""

    def change(config):
        next(layer for layer in config["config"]["layers"] if layer["config"]["name"] == name)["config"] |= values

    return change


def rewire(config):
    """Let one convolution take another layer's output."""
    text = json.dumps(config["config"]["layers"])
    first = text.index('"keras_history": ["conv2_block1_1_relu", 0, 0]')
    text = text[:first] + text[first:].replace("conv2_block1_1_relu", "conv2_block1_0_bn", 1)
    config["config"]["layers"] = json.loads(text)


def exchange(config):
    next(layer for layer in config["config"]["layers"] if layer["class_name"] == "ReLU")["class_name"] = "Softmax"


def ask_for_something_else(config):
    config["config"]["layers"][1] |= {"module": "os", "class_name": "system", "registered_name": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("conv1_conv", strides=[2, 2]), r"'conv1_conv' \(strides is \[2, 2\] in the file and \[4, 4\] here\)"),
        (set_in("conv1_conv", dilation_rate=[2, 2]), r"'conv1_conv' \(dilation_rate is \[2, 2\]"),
        (set_in("yaw_bn", epsilon=1e-5), r"'yaw_bn' \(epsilon is 1e-05 in the file and 0.001 here\)"),
        (rewire, r"'conv2_block1_2_conv' \(inputs is"),
        (exchange, r"'conv1_relu' \(class is Softmax in the file and ReLU here\)"),
        (ask_for_something_else, r"'subtract_means' \(class is system in the file and Rescaling here\)"),
        (lambda config: config["config"]["layers"].pop(), r"\(missing in the file\)"),
    ],
)
def test_a_file_that_describes_another_network_is_refused_and_never_built(change, message, model, tmp_path):
    save_with_config(model, tmp_path, "other.keras", change)
    with pytest.raises(InputError, match="1 layers differ, the first is .*" + message):
        load_rafa_net(tmp_path / "other.keras")


def test_a_file_with_its_layers_in_another_order_is_refused(model, tmp_path):
    def exchange_two(config):
        layers = config["config"]["layers"]
        yaw, pitch = (
            next(place for place, layer in enumerate(layers) if layer["config"]["name"] == name)
            for name in ("yaw_bn", "pitch_bn")
        )
        layers[yaw], layers[pitch] = layers[pitch], layers[yaw]

    save_with_config(model, tmp_path, "other.keras", exchange_two)
    with pytest.raises(InputError, match="its layers have another order"):
        load_rafa_net(tmp_path / "other.keras")


@pytest.mark.parametrize(
    "content",
    [
        b"[1, 2]",
        b'{"config": {"name": null}}',
        b'{"config": {"name": "rafa_net_tiny"}}',
        b'{"config": {"name": "rafa_net_tiny", "layers": 5}}',
        b'{"config": {"name": "rafa_net_tiny", "layers": []}}',
        b'{"config": {"name": "rafa_net_tiny", "layers": [null]}}',
        b'{"config": {"name": "rafa_net_tiny", "layers": ' + b"[" * 990 + b"]" * 990 + b"}}",
        b"[" * 100_000,
        b"\xff\xfe\x00{",
    ],
    ids=lambda content: content[:60].decode(errors="replace"),
)
def test_a_config_of_any_shape_is_refused_in_one_line(content, model, tmp_path):
    save_with(model, tmp_path / "other.keras", "config.json", lambda _: content)
    refused(tmp_path / "other.keras", "other.keras (is damaged|is another version|holds|cannot be loaded)")


def refused(path, message):
    """The file is refused with one line, and nothing is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=message) as error:
            load_rafa_net(path)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < len(str(path)) + 400


def test_a_config_is_refused_by_its_announced_size(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("config.json", b" " * (weight_files.LARGEST_CONFIG + 1))
    assert (tmp_path / "bomb.keras").stat().st_size < 100_000
    refused(tmp_path / "bomb.keras", r"config\.json announces 16,777,217 bytes; at most 16,777,216 are read")


def test_weights_are_refused_by_their_announced_size(model, tmp_path, monkeypatch):
    model.save(tmp_path / "bomb.keras")
    monkeypatch.setattr(weight_files, "LARGEST_WEIGHTS", 100_000)
    refused(tmp_path / "bomb.keras", r"its model\.weights\.h5 announces [\d,]+ bytes; at most 100,000 are read")


def test_a_changed_bit_is_noticed(model, tmp_path):
    model.save(tmp_path / "bit.keras")
    content = bytearray((tmp_path / "bit.keras").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "bit.keras").write_bytes(content)
    refused(tmp_path / "bit.keras", r"damaged .*model\.weights\.h5 differs from its checksum")


def lose(name):
    return lambda file: file.pop(name)


def link_to_itself(file):
    del file["layers/conv2d"]
    file["layers/conv2d"] = h5py.SoftLink("/layers/conv2d")


def nest_in_itself(file):
    del file["layers/conv2d_3/vars/1"]
    file["layers/conv2d_3/vars/1"] = file["layers"]


def announce_a_huge_one(file):
    del file["layers/conv2d_3/vars/1"]
    file.create_dataset("layers/conv2d_3/vars/1", (1 << 40,), "f4", chunks=(1024,))


def put(name, value):
    def change(file):
        old = file[name][...]
        del file[name]
        file[name] = value if isinstance(value, str) else np.full_like(old, value)

    return change


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lose("layers/conv2d_3/vars/1"), "expected 2 variables, but received 1"),
        (lose("layers/self_attention_1/f"), "cannot be loaded"),
        (lose("layers/dense"), "cannot be loaded"),
        (link_to_itself, "damaged|SoftLink"),
        (nest_in_itself, "expected Dataset, received"),
        (announce_a_huge_one, "cannot be loaded"),
        (put("layers/conv2d_3/vars/1", "text"), "cannot be loaded"),
        (put("layers/conv2d_3/vars/0", np.nan), "holds no finite numbers for .*kernel"),
        (put("layers/batch_normalization_2/vars/3", np.inf), "holds no finite numbers for .*moving_variance"),
    ],
)
def test_a_file_with_unusable_weights_is_refused_in_one_line(change, message, suffix, model, tmp_path):
    path = tmp_path / f"bad{suffix}"
    save_with_weights(model, path, change)
    refused(path, message)


def test_a_file_of_another_release_of_keras_is_read(model, tmp_path):
    def older(config):
        for layer in config["config"]["layers"]:
            layer["config"].pop("renorm", None)

    save_with_config(model, tmp_path, "older.keras", set_in("yaw_bn", momentum=0.97))
    save_with_config(model, tmp_path, "other.keras", older)
    load_rafa_net(tmp_path / "older.keras"), load_rafa_net(tmp_path / "other.keras")


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


def test_synthetic_weights_reach_the_residual_layers_and_leave_the_axis_heads_random():
    whole, started, random = (build_rafa_net("small", weights) for weights in (pretrained.FILE, "synthetic", None))

    def equal(first, second, name):
        pairs = zip(first.get_layer(name).get_weights(), second.get_layer(name).get_weights(), strict=True)
        return [np.array_equal(*pair) for pair in pairs]

    for name in ("conv1_conv", "conv3_block2_2_bn", *(f"{axis}_conv5_block1_1_conv" for axis in AXES)):
        assert all(equal(started, whole, name))
    for name in ("yaw_bn", "pitch"):
        assert not any(equal(started, whole, name)[:2])
    assert all(equal(started, random, "roll_bn")), "as an untrained network has them"
    with pytest.raises(InputError, match="backbone 'small', this network has 'tiny': give the backbone 'small'"):
        build_rafa_net("tiny", "synthetic")


def test_imagenet_layers_that_find_no_place_are_refused(tmp_path, monkeypatch):
    _write_legacy_weights(
        keras.applications.ResNet50(weights=None, include_top=False, input_shape=(224, 224, 3)), tmp_path / "r.h5"
    )
    monkeypatch.setattr(weight_files, "_BACKBONE_LAYER", re.compile(r"(conv2_.+)"))
    with pytest.raises(InputError, match="layers of ResNet-50 that found no place in rafa_net_resnet50: conv1_bn"):
        build_rafa_net("resnet50", weights=tmp_path / "r.h5")


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
