"""Weight files: what they hold, refusing what does not fit, and ResNet-50's ImageNet weights."""

import io
import json
import re
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rafa.files import written_whole
from rafa.net import inference
from rafa.net.backend import keras
from rafa.pose import AXES
from rafa.script import InputError

MODEL_NAME = "rafa_net_"  # and the backbone
# What a saved layer says that does not change its answers, or that releases of Keras say differently.
_IRRELEVANT = {"name", "dtype", "trainable", "momentum"}
_BACKBONE_LAYER = re.compile(rf"(?:(?:{'|'.join(AXES)})_)?(conv\d_.+)")  # the name in ResNet-50 is group 1
_DAMAGED = Exception  # there is hardly an error that zipfile, HDF5 and Keras do not raise for a file made to harm
LARGEST_CONFIG = 2**24  # bytes of config.json
LARGEST_WEIGHTS = 2**31  # bytes of anything else in a file; ResNet-50 with an optimizer has 0.6 of 10⁹


def load_into(model: keras.Model, weights: str | Path, stems: dict[int, str]) -> None:
    """Load weights into a RAFA-Net.

    Args:
        weights: "imagenet", "synthetic", or a file (see `rafa_model.build_rafa_net`).
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
    if weights == inference.SYNTHETIC:
        fresh = [(each, each.get_weights()) for each in model.layers if not _BACKBONE_LAYER.fullmatch(each.name)]
        load_into(model, inference.SYNTHETIC_FILE, stems)
        for layer, values in fresh:
            layer.set_weights(values)
        return
    if (held := backbone_of(weights, stems)) != backbone:
        mend = f"give the backbone {held!r}, other weights, or 'none'"
        raise InputError(
            f"{weights} holds a RAFA-Net with the backbone {held!r}, this network has {backbone!r}: {mend}"
        )
    if Path(weights).suffix == ".keras":  # a .weights.h5 file does not describe its layers
        _check_layers(model, Path(weights))
    _fill_with_nan(model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.load_weights(weights)
    except _DAMAGED as error:
        lines = [line for line in str(error).splitlines() if line] or [repr(error)]
        reason = lines[1] if lines[0].startswith("A total of") and len(lines) > 1 else lines[0]
        raise InputError(f"{weights} cannot be loaded as weights of {model.name}: {reason}") from error
    if name := not_finite(model):
        raise InputError(f"{weights} holds no finite numbers for {name}: it is damaged, or not a whole checkpoint")


def _fill_with_nan(model: keras.Model) -> None:
    """So that a weight that a file lacks is found, even where Keras only warns, as for those of an optimizer."""
    for variable in _weights_of(model):
        if "float" in variable.dtype:
            variable.assign(np.full(variable.shape, np.nan))


def _weights_of(model: keras.Model) -> list[Any]:
    """The weights of a network, and those of its optimizer where it has one."""
    optimizer = getattr(model, "optimizer", None)
    return [*model.weights, *(optimizer.variables if optimizer else ())]


def not_finite(model: keras.Model) -> str | None:
    """The path of the first weight of a network or its optimizer whose numbers are not all finite; None without one."""
    return next((each.path for each in _weights_of(model) if not np.isfinite(each.numpy()).all()), None)


def save_half(model: keras.Model, path: Path) -> None:
    """Save a `.weights.h5` file of half the size: matrices and kernels in half precision, vectors as they are."""
    halved = io.BytesIO()  # HDF5's own errors on a full disk are of many kinds
    with tempfile.TemporaryDirectory() as folder:
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
    with written_whole(path) as unfinished:
        unfinished.write_bytes(halved.getvalue())


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
        raise InputError(f"{path}: no such file; weights are 'imagenet', 'synthetic', 'none', or a file")
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
        raise InputError(f"{path} is damaged or not a file of this suite: {_short(repr(error))}") from error
    if filters not in stems:
        raise InputError(f"{path} is no network of this suite: its first convolution has {filters} filters")
    return stems[filters]


def _config(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        for part in archive.infolist():
            most = LARGEST_CONFIG if part.filename == "config.json" else LARGEST_WEIGHTS
            if part.file_size > most:
                announced = f"{path}: its {part.filename} announces {part.file_size:,} bytes"
                raise InputError(f"{announced}; at most {most:,} are read")
        return json.loads(archive.read("config.json"))


def _check_layers(model: keras.Model, path: Path) -> None:
    """Refuse a `.keras` file of another version of this network."""
    ours = _layer_settings(json.loads(json.dumps(keras.saving.serialize_keras_object(model))))
    try:
        config = _config(path)
        theirs = _layer_settings(config)
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # Keras does not look at checksums
                raise ValueError(f"{damaged} differs from its checksum")
    except _DAMAGED as error:
        raise InputError(f"{path} is damaged or not a file of this suite: {_short(repr(error))}") from error
    differing = {name: _difference(ours.get(name), theirs.get(name)) for name in {**ours, **theirs}}
    differing = {name: difference for name, difference in differing.items() if difference}
    if differing:
        name = next(iter(differing))
        raise InputError(
            f"{path} is another version of {model.name}: {len(differing)} layers differ, the first is "
            f"{_short(repr(name))} ({differing[name]}); use the commit it was trained with"
        )
    if [layer["config"]["name"] for layer in config["config"]["layers"]] != list(ours):  # weights are found by it
        raise InputError(f"{path} is another version of {model.name}: its layers have another order")


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
    return ", ".join(f"{key} is {_short(theirs[key])} in the file and {_short(ours[key])} here" for key in keys)


def _short(value: object) -> str:
    """What fits into a line of an error."""
    text = " ".join(str(value).split())
    return text if len(text) <= 100 else f"{text[:97]}..."


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
