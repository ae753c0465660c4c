"""The suite's own weights: found by name, loaded whole or for their residual layers alone."""

import json

import numpy as np
import pytest

from predict import SYNTHETIC_RESULT
from rafa.files import sha256
from rafa.net.inference import load_network, predict_angles
from rafa.net.pretrained import SYNTHETIC_FILE, weights_file
from rafa.score.protocol import read_results
from rafa.script import InputError
from rafa_model import build_rafa_net, load_rafa_net

CROPS = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)


@pytest.fixture(scope="module")
def synthetic():
    return load_rafa_net("synthetic")


def equal(first, second, name):
    """Whether each weight of a layer is the same in two networks."""
    pairs = zip(first.get_layer(name).get_weights(), second.get_layer(name).get_weights(), strict=True)
    return [np.array_equal(*pair) for pair in pairs]


def test_the_name_stands_for_the_file_and_a_path_for_itself(weights):
    assert weights_file("synthetic") == str(SYNTHETIC_FILE)
    assert weights_file(weights) == weights
    with pytest.raises(InputError, match=r"w\.keras: no such file"):
        weights_file("w.keras")


def test_the_name_is_the_whole_network_wherever_it_is_given(synthetic):
    assert synthetic.name == "rafa_net_small"
    expected = predict_angles(synthetic, CROPS)
    for network in (load_rafa_net(SYNTHETIC_FILE), build_rafa_net("small", "synthetic"), load_network("synthetic")):
        np.testing.assert_array_equal(predict_angles(network, CROPS), expected)


def test_its_residual_layers_alone_leave_the_axis_heads_random(synthetic):
    started, random = (build_rafa_net("small", weights) for weights in ("synthetic-backbone", None))
    for name in ("conv1_conv", "conv3_block2_2_bn", *(f"{axis}_conv5_block1_1_conv" for axis in ("yaw", "pitch"))):
        assert all(equal(started, synthetic, name))
    for name in ("yaw_bn", "pitch"):
        assert not any(equal(started, synthetic, name)[:2])
    assert all(equal(started, random, "roll_bn")), "as an untrained network has them"
    with pytest.raises(InputError, match="rafa_net_tiny"):
        build_rafa_net("tiny", "synthetic-backbone")


def test_the_shipped_file_is_small_and_knows_its_run():
    assert SYNTHETIC_FILE.stat().st_size <= 4_000_000
    run = json.loads(SYNTHETIC_FILE.with_name("run.json").read_text())
    assert run["options"]["synthetic"] == "full" and run["commit"]
    (result,) = read_results(SYNTHETIC_RESULT)
    assert sha256(SYNTHETIC_FILE) in run["weights"].values()
    assert result["card"]["weights"]["sha256"] == sha256(SYNTHETIC_FILE)
