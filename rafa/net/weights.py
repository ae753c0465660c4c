"""Weights of a RAFA-Net: from its files, refused where they do not fit, and ResNet-50's from ImageNet."""

import io
import json
import re
import tempfile
import textwrap
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from rafa.files import written_whole
from rafa.net.backend import keras
from rafa.net.pretrained import SYNTHETIC, SYNTHETIC_BACKBONE, weights_file
from rafa.pose import AXES
from rafa.script import InputError

MODEL_NAME = "rafa_net_"  # and the backbone
_BACKBONE_LAYER = re.compile(rf"(?:(?:{'|'.join(AXES)})_)?(conv\d_.+)")  # the name in ResNet-50 is group 1


def load_into(model: keras.Model, weights: str | Path) -> None:
    """Load weights into a RAFA-Net, and into its optimizer where it has one.

    Args:
        weights: as for `rafa_model.build_rafa_net`.

    Raises:
        InputError: weights that cannot be had, that do not fit this network, or that are not finite.
    """
    path = Path(weights)
    if weights == "imagenet" or (path.suffix == ".h5" and not path.name.endswith(".weights.h5")):
        _copy_imagenet(model, weights)
    elif weights == SYNTHETIC_BACKBONE:
        fresh = [(each, each.get_weights()) for each in model.layers if not _BACKBONE_LAYER.fullmatch(each.name)]
        _load_file(model, Path(weights_file(SYNTHETIC)))
        for layer, values in fresh:
            layer.set_weights(values)
    else:
        _load_file(model, Path(weights_file(str(weights))))


def _load_file(model: keras.Model, path: Path) -> None:
    try:
        if path.suffix == ".keras":  # a .weights.h5 file does not describe its layers
            _refuse_another_network(model, path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", "Skipping variable loading for optimizer")  # training would start anew
            model.load_weights(path)
    except InputError:
        raise
    except Exception as error:  # of zipfile, HDF5 and Keras, many kinds for a damaged file
        reason = textwrap.shorten(str(error) or repr(error), 300)
        raise InputError(f"{path} cannot be loaded as weights of {model.name}: {reason}") from error
    if name := not_finite(model):
        raise InputError(f"{path} holds no finite numbers for {name}: it is damaged, or its training diverged")


def _refuse_another_network(model: keras.Model, path: Path) -> None:
    """Refuse a `.keras` file that is damaged, or whose weights would mean something else in this network."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():  # newer releases of Python do not check what Keras reads
            raise zipfile.BadZipFile(f"{damaged} differs from its checksum")
    theirs, ours = _config(path), json.loads(model.to_json())["config"]
    if theirs["name"] != ours["name"]:
        mend = "give the backbone it was trained with, other weights, or 'none'"
        raise InputError(f"{path} holds the network {theirs['name']!r}, this one is {ours['name']!r}: {mend}")
    if _layers(theirs) != _layers(ours):
        raise InputError(f"{path} holds another version of {model.name}; use the commit it was trained with")


def _layers(config: dict[str, Any]) -> list[list]:
    """What decides, beside shapes, what the weights of each layer mean; Keras stores them in this order."""
    settings = ("name", "strides", "padding", "epsilon")
    return [[each["class_name"], *map(each["config"].get, settings)] for each in config["layers"]]


def not_finite(model: keras.Model) -> str | None:
    """The path of the first weight of a network or its optimizer whose numbers are not all finite; None without one."""
    optimizer = getattr(model, "optimizer", None)
    each = [*model.weights, *(optimizer.variables if optimizer else ())]
    return next((weight.path for weight in each if not np.isfinite(weight.numpy()).all()), None)


def backbone_of(path: str | Path, sizes: Mapping[int, str]) -> str:
    """The backbone of a saved RAFA-Net, read from its file without building or running anything it describes.

    Args:
        path: a `.keras` or `.weights.h5` file.
        sizes: number of parameters of a network → its backbone: a `.weights.h5` file holds no name.

    Raises:
        InputError: a damaged file, or one that is not of this suite.
    """
    path = Path(path)
    try:
        if path.suffix == ".keras":
            backbone = _config(path)["name"].removeprefix(MODEL_NAME)
        else:
            backbone = sizes.get(_parameters(path))
    except Exception as error:  # many kinds, as above
        raise InputError(f"{path} is damaged, or no .keras or .weights.h5 file of this suite: {error!r}") from error
    if backbone not in sizes.values():
        raise InputError(f"{path} holds another network than those of this suite: {', '.join(sizes.values())}")
    return backbone


def _config(path: Path) -> dict[str, Any]:
    """The description of the network in a `.keras` file: text, of which nothing is built."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))["config"]


def _parameters(path: Path) -> int:
    """The number of parameters in a `.weights.h5` file."""
    sizes: list[int] = []
    with h5py.File(path) as file:
        file["layers"].visititems(lambda _, item: sizes.append(item.size if isinstance(item, h5py.Dataset) else 0))
    return sum(sizes)


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


def _copy_imagenet(model: keras.Model, weights: str | Path) -> None:
    """Copy ResNet-50 into the trunk and into every branch's conv5, by name, and check that everything matched."""
    if model.name != f"{MODEL_NAME}resnet50":
        raise InputError(f"ImageNet weights are ResNet-50's and do not fit {model.name}: give the weights 'none'")
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
