"""Maps are the gradients they claim to be, and weights add up to 1."""

import numpy as np
import pytest

import rafa_model
from rafa.net import explain
from rafa.net.backend import keras
from rafa.pose import AXES

# Pale, so that the attention of a random network is no choice of one cell: that would make cells equal, and maxima tie.
CROPS = np.random.default_rng(0).integers(95, 135, (2, 224, 224, 3), np.uint8)


@pytest.fixture(scope="module")
def gated():
    """A tiny network whose self-attention takes part."""
    keras.utils.set_random_seed(5)
    network = rafa_model.build_rafa_net("tiny", weights=None)
    for axis, gate in zip(AXES, (0.5, -0.25, 2.0), strict=True):
        network.get_layer(f"{axis}_self_attention").gamma.assign([gate])
    return network


@pytest.fixture(scope="module")
def explainer(gated):
    return explain.Explainer(gated)


@pytest.fixture(scope="module")
def explanation(explainer):
    return explainer(CROPS)


# --- Maps -------------------------------------------------------------------------------------------------------------
def halves(model, axis):
    """The network in two: crops → attended map A, and A → angle."""
    attended = model.get_layer(f"{axis}_self_attention").output[0]
    return keras.Model(model.input, attended), keras.Model(attended, model.get_layer(axis).output)


def slope(tail, attended, direction, step):
    """The derivative of the angle along a direction in the space of maps, by differences."""
    above, below = (tail.predict_on_batch(attended + sign * step * direction)[:, 0] for sign in (1, -1))
    return (above - below) / (2 * step)


@pytest.mark.parametrize("axis", AXES)
def test_each_cell_of_l_says_how_the_angle_follows_that_cell(gated, explanation, axis):
    first, tail = halves(gated, axis)
    attended = first.predict_on_batch(CROPS.astype("float32"))
    size = np.abs(explanation.local[axis][0])
    for row, column in ((3, 3), *np.argwhere(size == size.max())):
        direction = np.zeros_like(attended)
        direction[:, row, column] = attended[:, row, column]
        expected = slope(tail, attended, direction, 2e-4)
        scale = np.abs(explanation.local[axis]).max()
        assert explanation.local[axis][:, row, column] == pytest.approx(expected, abs=0.05 * float(scale))


@pytest.mark.parametrize("axis", AXES)
def test_each_cell_of_m_weighs_its_channels_by_the_mean_gradient(gated, explanation, axis):
    first, tail = halves(gated, axis)
    attended = first.predict_on_batch(CROPS.astype("float32"))
    direction = np.broadcast_to(attended[:, 2:3, 4:5], attended.shape)  # the channels of one cell, everywhere
    expected = slope(tail, attended, direction, 2e-4) / 49
    assert explanation.mean[axis][:, 2, 4] == pytest.approx(
        expected, rel=0.05, abs=0.02 * float(np.abs(expected).max())
    )


@pytest.mark.parametrize("axis", AXES)
def test_attention_is_the_layer_s_own_and_rows_add_up_to_one(gated, explanation, axis):
    expected = keras.Model(gated.input, gated.get_layer(f"{axis}_self_attention").output[1]).predict_on_batch(CROPS)
    assert explanation.attention[axis] == pytest.approx(expected, abs=1e-5)
    assert explanation.attention[axis].shape == (2, 49, 49)
    assert explanation.attention[axis].sum(axis=-1) == pytest.approx(1, abs=1e-5)
    assert explanation.gates == pytest.approx({"yaw": 0.5, "pitch": -0.25, "roll": 2.0})


@pytest.mark.parametrize("axis", AXES)
def test_region_weights_say_how_much_a_region_counts_in_what_the_last_layer_sees(gated, explanation, axis):
    names = [gated.get_layer(f"{axis}_regions").output, gated.get_layer(f"{axis}_weighted_attention").output[0]]
    regions, seen = keras.Model(gated.input, names).predict_on_batch(CROPS)
    assert np.einsum("bn,bnc->bc", explanation.regions[axis], regions) == pytest.approx(seen, rel=1e-3, abs=1e-4)
    assert explanation.regions[axis].sum(axis=-1) == pytest.approx(1, abs=1e-5)


def test_region_boxes_lie_where_the_network_pools():
    boxes, hot = explain.region_boxes(), np.zeros((49, 7, 7, 1), "float32")
    for cell in range(49):
        hot[cell, cell // 7, cell % 7] = 1
    symbol = keras.Input((7, 7, 1))
    pooled = keras.Model(symbol, rafa_model.coarse_to_fine_pooling(symbol, "yaw")).predict_on_batch(hot)[..., 0]
    for cell in range(49):
        row, column = (np.array(divmod(cell, 7)) + 0.5) / 7
        inside = (boxes[:, 0] < row) & (row < boxes[:, 2]) & (boxes[:, 1] < column) & (column < boxes[:, 3])
        assert (inside == (pooled[cell] == 1)).all()
    assert boxes.shape == (35, 4) and boxes[-1].tolist() == [0, 0, 1, 1]


def test_the_rules_take_signs_as_they_say():
    mean, local = ({axis: sign * np.array([[[1.0, -2.0]]]) for axis in AXES} for sign in (1, -3))
    explanation = explain.Explanation(mean, local, {}, {}, {}, explain.region_boxes(), {})
    assert explanation.cam("yaw").tolist() == [[[3, 6]]]
    assert explanation.cam("yaw", "grad-cam").tolist() == [[[1, 0]]]
