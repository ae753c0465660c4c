"""Weight files: reading them, refusing what does not fit, and ResNet-50's ImageNet weights."""

import json
import re
import zipfile
from pathlib import Path

import h5py

from data_loaders import AXES
from rafa_model import BACKBONES, INPUT_SHAPE
from util.backend import keras
from util.errors import InputError

# --- Weights ----------------------------------------------------------------------------------------------------------


_BACKBONE_LAYER = re.compile(rf"(?:(?:{'|'.join(AXES)})_)?(conv\d_.+)")  # the name in ResNet-50 is group 1


def start_from(model, backbone, weights):
    if weights == "imagenet" or _is_imagenet_file(weights):
        if backbone != "resnet50":
            raise InputError(
                f"ImageNet weights are ResNet-50's and do not fit the backbone {backbone!r}: "
                "give weights None, or the backbone 'resnet50'"
            )
        _copy_imagenet(model, weights)
        return
    held = backbone_of(weights)
    if held != backbone:
        raise InputError(f"{weights} holds a RAFA-Net with the backbone {held!r}, this network has {backbone!r}")
    _check_architecture(model, weights)
    try:
        model.load_weights(weights)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(f"{weights} cannot be loaded as weights of {model.name}: {error}") from error


# What makes a layer compute something else without changing the shape of its weights.
_SETTINGS = ("strides", "padding", "pool_size", "kernel_size", "epsilon", "scale", "offset", "units", "activation")


def _check_architecture(model, path):
    """Refuse a `.keras` file of another version of this network.  A `.weights.h5` file does not tell."""
    if Path(path).suffix != ".keras":
        return
    with zipfile.ZipFile(path) as archive:
        theirs = json.loads(archive.read("config.json"))
    ours = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    ours, theirs = _settings(ours), _settings(theirs)
    differing = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if differing:
        name = differing[0]
        raise InputError(
            f"{path} is another version of {model.name}: {len(differing)} layers differ, the first is {name!r} with "
            f"{theirs.get(name)} in the file and {ours.get(name)} here; use the commit it was trained with"
        )


def _settings(config):
    """Layer name → what the saved config says of _SETTINGS."""
    layers_of = config["config"]["layers"]
    return {layer["config"]["name"]: {k: layer["config"].get(k) for k in _SETTINGS} for layer in layers_of}


def _is_imagenet_file(path):
    """Whether it is `keras.applications`' `.h5` form, whose top level lists layer names."""
    path = Path(path)
    if path.suffix != ".h5" or path.name.endswith(".weights.h5") or not path.is_file():
        return False
    try:
        with h5py.File(path) as file:
            return "conv1_conv" in file
    except OSError as error:
        raise InputError(f"{path} is not a readable HDF5 file: {error}") from error


def _copy_imagenet(model, weights):
    """Copy ResNet-50 into the trunk and into every branch's conv5, by name, and check that everything matched."""
    try:
        source = keras.applications.ResNet50(weights=weights, include_top=False, input_shape=INPUT_SHAPE)
    except Exception as error:
        raise InputError(
            f"ResNet-50's ImageNet weights could not be had: {error}\n"
            "Give the file resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5 of keras.applications as the weights, "
            "or None to start from random ones."
        ) from error
    unused = {layer.name for layer in source.layers if layer.weights}
    for layer in model.layers:
        match = _BACKBONE_LAYER.fullmatch(layer.name)
        if match and layer.weights:
            layer.set_weights(source.get_layer(match[1]).get_weights())
            unused.discard(match[1])
    if unused:
        raise InputError(f"layers of ResNet-50 that found no place in {model.name}: {', '.join(sorted(unused))}")


def _backbone_of_stem(path):
    """Tell the backbones of a `.weights.h5` file apart by the number of filters of the first convolution."""
    with h5py.File(path) as file:
        filters = file["layers/conv2d/vars/0"].shape[-1]
    return next(
        (name for name, backbone in BACKBONES.items() if backbone.stem_filters == filters), f"{filters} filters"
    )


def backbone_of(path):
    """The backbone's name of a RAFA-Net file, read from it without building or running anything it describes."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; weights are 'imagenet', 'none', or a file")
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                name = json.loads(archive.read("config.json"))["config"]["name"]
            held = name.removeprefix("rafa_net_")
        elif path.name.endswith(".weights.h5"):
            held = _backbone_of_stem(path)
        else:
            raise InputError(f"{path}: weights are read from .keras or .weights.h5 files of this suite, nothing else")
    except (OSError, KeyError, TypeError, json.JSONDecodeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged or not a file of this suite: {error!r}") from error
    if held not in BACKBONES:
        raise InputError(f"{path} holds {held!r}, not a RAFA-Net of this suite ({', '.join(BACKBONES)})")
    return held
