"""Loading TensorFlow leaves settings as they were, and layers get the precision that is asked for."""

import json
import os
import subprocess
import sys

import pytest

from rafa.files import ROOT
from rafa.net.backend import computing_in, keras

PROGRAM = """
import gc, os
import rafa.net.backend
print(gc.isenabled(), gc.get_freeze_count(), os.environ["TF_CPP_MIN_LOG_LEVEL"], os.environ["TF_ENABLE_ONEDNN_OPTS"])
"""


def test_garbage_collection_and_given_settings_are_as_before():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "1"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "True 0 1 1\n"


def test_layers_compute_in_the_precision_of_the_block_they_are_built_in():
    with pytest.raises(KeyError), computing_in("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
        raise KeyError
    assert keras.layers.Dense(1).compute_dtype == "float32"


def test_settings_of_notebooks_and_of_other_projects_change_nothing(tmp_path):
    settings = {"floatx": "float16", "epsilon": 0.5, "backend": "jax", "image_data_format": "channels_first"}
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    environment = {"MPLBACKEND": "module://unknown.inline", "KERAS_BACKEND": "jax", "TF_USE_LEGACY_KERAS": "1"}
    environment |= {"KERAS_HOME": str(tmp_path)}
    program = """
from rafa.net.backend import keras
import matplotlib
print(keras.config.backend(), keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format())
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True)
    assert done.stdout == "tensorflow float32 1e-07 channels_last\n"
