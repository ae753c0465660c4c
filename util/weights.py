"""Weight files: what they hold, refusing what does not fit, and ResNet-50's ImageNet weights."""

import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data_loaders import AXES
from util.backend import keras
from util.errors import InputError
from util.provenance import written_whole

MODEL_NAME = "rafa_net_"  # and the backbone
# What a saved layer says that does not change its answers, or that releases of Keras say differently.
_IRRELEVANT = {"name", "dtype", "trainable", "momentum"}
_BACKBONE_LAYER = re.compile(rf"(?:(?:{'|'.join(AXES)})_)?(conv\d_.+)")  # the name in ResNet-50 is group 1
_DAMAGED = (OSError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile)


def load_into(model: keras.Model, weights: str | Path, stems: dict[int, str]) -> None:
    """Load weights into a RAFA-Net.

    Args:
        weights: "imagenet", or a file (see `rafa_model.build_rafa_net`).
        stems: as for `backbone_of`.

    Raises:
        InputError: weights that cannot be had, or that do not fit this network.
    """
    backbone = model.name.removeprefix(MODEL_NAME)
    if weights == "imagenet" or _is_imagenet_file(Path(weights)):
        if backbone != "resnet50":
            raise InputError(
                f"ImageNet weights are ResNet-50's and do not fit the backbone {backbone!r}: "
                "give weights 'none', or the backbone 'resnet50'"
            )
        _copy_imagenet(model, weights)
        return
    if (held := backbone_of(weights, stems)) != backbone:
        raise InputError(f"{weights} holds a RAFA-Net with the backbone {held!r}, this network has {backbone!r}")
    if Path(weights).suffix == ".keras":  # a .weights.h5 file does not describe its layers
        _check_layers(model, Path(weights))
    try:
        model.load_weights(weights)
    except _DAMAGED as error:
        raise InputError(f"{weights} cannot be loaded as weights of {model.name}: {error}") from error


def save_half(model: keras.Model, path: Path) -> None:
    """Save a `.weights.h5` file of half the size: matrices and kernels in half precision, vectors as they are."""
    with written_whole(path) as halved, tempfile.TemporaryDirectory() as folder:
        full = Path(folder, "full.weights.h5")
        model.save_weights(full)
        with h5py.File(full) as source, h5py.File(halved, "w") as target:

            def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
                if isinstance(item, h5py.Dataset):
                    values = item[...]
                    target[name] = values.astype(np.float16) if values.ndim > 1 else values
                else:
                    target.require_group(name).attrs.update(item.attrs)

            source.visititems(copy)


def backbone_of(path: str | Path, stems: dict[int, str]) -> str:
    """The backbone's name of a RAFA-Net file, read from it without building or running anything it describes.

    Args:
        path: a `.keras` or `.weights.h5` file.
        stems: filters of the first convolution → backbone: a `.weights.h5` file holds no name.

    Raises:
        InputError: no such file, a damaged one, or one that is not of this suite.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; weights are 'imagenet', 'none', or a file")
    if path.suffix != ".keras" and not path.name.endswith(".weights.h5"):
        raise InputError(f"{path}: weights are read from .keras or .weights.h5 files of this suite, nothing else")
    try:
        if path.suffix == ".keras":
            name = str(_config(path)["config"]["name"])
            if not name.startswith(MODEL_NAME):
                raise InputError(f"{path} holds {name!r}, not a RAFA-Net of this suite")
            return name.removeprefix(MODEL_NAME)
        with h5py.File(path) as file:
            filters = int(file["layers/conv2d/vars/0"].shape[-1])
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(f"{path} is damaged or not a file of this suite: {error!r}") from error
    if filters not in stems:
        raise InputError(f"{path} is no network of this suite: its first convolution has {filters} filters")
    return stems[filters]


def _config(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def _check_layers(model: keras.Model, path: Path) -> None:
    """Refuse a `.keras` file of another version of this network."""
    ours = _layer_settings(json.loads(json.dumps(keras.saving.serialize_keras_object(model))))
    try:
        theirs = _layer_settings(_config(path))
    except (*_DAMAGED, AttributeError) as error:
        raise InputError(f"{path} is damaged or not a file of this suite: {error!r}") from error
    differing = {name: _difference(ours.get(name), theirs.get(name)) for name in {**ours, **theirs}}
    differing = {name: difference for name, difference in differing.items() if difference}
    if differing:
        name = next(iter(differing))
        raise InputError(
            f"{path} is another version of {model.name}: {len(differing)} layers differ, the first is {name!r} "
            f"({differing[name]}); use the commit it was trained with"
        )


def _layer_settings(config: dict[str, Any]) -> dict[str, dict]:
    """Layer name → its class, the layers it takes its inputs from, and its settings."""
    found = {}
    for layer in config["config"]["layers"]:
        inputs = re.findall(r'"keras_history": \["(\w+)", \d+, (\d+)\]', json.dumps(layer["inbound_nodes"]))
        settings = {key: value for key, value in layer["config"].items() if key not in _IRRELEVANT}
        found[layer["config"]["name"]] = {"class": layer["class_name"], "inputs": json.dumps(inputs), **settings}
    return found


def _difference(ours: dict | None, theirs: dict | None) -> str:
    """What of a layer differs, in words; settings that only one release of Keras writes do not count."""
    if ours is None or theirs is None:
        return "missing here" if ours is None else "missing in the file"
    keys = [key for key in ours if key in theirs and not isinstance(ours[key], dict) and ours[key] != theirs[key]]
    return ", ".join(f"{key} is {theirs[key]} in the file and {ours[key]} here" for key in keys)


def _is_imagenet_file(path: Path) -> bool:
    """Whether it is `keras.applications`' `.h5` form, whose top level lists layer names."""
    if path.suffix != ".h5" or path.name.endswith(".weights.h5") or not path.is_file():
        return False
    try:
        with h5py.File(path) as file:
            return "conv1_conv" in file
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file: {error}") from error


def _copy_imagenet(model: keras.Model, weights: str | Path) -> None:
    """Copy ResNet-50 into the trunk and into every branch's conv5, by name, and check that everything matched."""
    try:
        source = keras.applications.ResNet50(weights=weights, include_top=False, input_shape=model.input_shape[1:])
    except Exception as error:
        raise InputError(
            f"ResNet-50's ImageNet weights could not be loaded: {error}\n"
            "Give the file resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5 of keras.applications as the weights, "
            "or 'none' to start from random ones."
        ) from error
    unused = {layer.name for layer in source.layers if layer.weights}
    for layer in model.layers:
        match = _BACKBONE_LAYER.fullmatch(layer.name)
        if match and layer.weights:
            layer.set_weights(source.get_layer(match[1]).get_weights())
            unused.discard(match[1])
    if unused:
        raise InputError(f"layers of ResNet-50 that found no place in {model.name}: {', '.join(sorted(unused))}")
