"""Maps are the gradients they claim to be, and weights add up to 1."""

import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from scipy.stats import spearmanr

import rafa_model
from rafa.datasets.images import read_image
from rafa.net import explain
from rafa.net.backend import keras
from rafa.pose import AXES, AXIS_COLOURS
from rafa.script import InputError

sys.path.insert(0, str(Path(__file__).parents[1] / "measurements"))
import explanations

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
def found(explainer):
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
def test_each_cell_of_l_says_how_the_angle_follows_that_cell(gated, found, axis):
    first, tail = halves(gated, axis)
    attended = first.predict_on_batch(CROPS.astype("float32"))
    for row, column in ((3, 3), *np.argwhere(np.abs(found.local[axis][0]) == np.abs(found.local[axis][0]).max())):
        direction = np.zeros_like(attended)
        direction[:, row, column] = attended[:, row, column]
        expected = slope(tail, attended, direction, 2e-4)
        scale = np.abs(found.local[axis]).max()
        assert found.local[axis][:, row, column] == pytest.approx(expected, abs=0.05 * float(scale))


@pytest.mark.parametrize("axis", AXES)
def test_each_cell_of_m_weighs_its_channels_by_the_mean_gradient(gated, found, axis):
    first, tail = halves(gated, axis)
    attended = first.predict_on_batch(CROPS.astype("float32"))
    direction = np.broadcast_to(attended[:, 2:3, 4:5], attended.shape)  # the channels of one cell, everywhere
    expected = slope(tail, attended, direction, 2e-4) / 49
    assert found.mean[axis][:, 2, 4] == pytest.approx(expected, rel=0.05, abs=0.02 * float(np.abs(expected).max()))


@pytest.mark.parametrize("axis", AXES)
def test_attention_is_the_layer_s_own_and_rows_add_up_to_one(gated, found, axis):
    expected = keras.Model(gated.input, gated.get_layer(f"{axis}_self_attention").output[1]).predict_on_batch(CROPS)
    assert found.attention[axis] == pytest.approx(expected, abs=1e-5)
    assert found.attention[axis].shape == (2, 49, 49)
    assert found.attention[axis].sum(axis=-1) == pytest.approx(1, abs=1e-5)
    assert found.gates == pytest.approx({"yaw": 0.5, "pitch": -0.25, "roll": 2.0})


@pytest.mark.parametrize("axis", AXES)
def test_region_weights_say_how_much_a_region_counts_in_what_the_last_layer_sees(gated, found, axis):
    names = [gated.get_layer(f"{axis}_regions").output, gated.get_layer(f"{axis}_weighted_attention").output[0]]
    regions, seen = keras.Model(gated.input, names).predict_on_batch(CROPS)
    assert np.einsum("bn,bnc->bc", found.regions[axis], regions) == pytest.approx(seen, rel=1e-3, abs=1e-4)
    assert found.regions[axis].sum(axis=-1) == pytest.approx(1, abs=1e-5)


def test_region_boxes_lie_where_the_network_pools(found):
    boxes, hot = found.region_boxes, np.zeros((49, 7, 7, 1), "float32")
    for cell in range(49):
        hot[cell, cell // 7, cell % 7] = 1
    symbol = keras.Input((7, 7, 1))
    pooled = keras.Model(symbol, rafa_model.coarse_to_fine_pooling(symbol, "yaw")).predict_on_batch(hot)[..., 0]
    for cell in range(49):
        row, column = (np.array(divmod(cell, 7)) + 0.5) / 7
        inside = (boxes[:, 0] < row) & (row < boxes[:, 2]) & (boxes[:, 1] < column) & (column < boxes[:, 3])
        assert (inside == (pooled[cell] == 1)).all()
    assert boxes.shape == (35, 4) and boxes[-1].tolist() == [0, 0, 1, 1]


def test_the_default_map_takes_both_signs_and_the_published_one_what_is_positive():
    mean, local = ({"yaw": sign * np.array([[[1.0, -2.0]]])} for sign in (1, -3))
    by_hand = explain.Explanation(mean, local, {}, {}, {}, np.empty((0, 4)))
    assert by_hand.cam("yaw").tolist() == by_hand.cam("yaw", "local").tolist() == [[[3, 6]]]
    assert by_hand.cam("yaw", "grad-cam").tolist() == [[[1, 0]]]


# --- Measuring (tests/measurements/explanations.py) -------------------------------------------------------------------
def test_the_share_inside_a_mask_is_one_for_mass_inside_and_the_area_for_an_even_map():
    mask = np.zeros((224, 224), bool)
    mask[:112] = True
    above, even = np.zeros((7, 7)), np.ones((7, 7))
    above[1] = 1
    maps = np.array([[above, above[::-1], even], [0 * even, above, above]])
    shares = explanations.shares_inside(maps, np.stack([mask, ~mask]))
    assert shares == pytest.approx(np.array([[1, 0, 0.5], [0.5, 0, 0]]))


def test_agreement_is_spearman_s_rank_correlation_and_0_for_a_map_that_says_nothing():
    rng = np.random.default_rng(1)
    maps, effects = rng.integers(0, 9, (2, 3, 7, 7)).astype(float), rng.integers(0, 9, (2, 3, 49)).astype(float)
    maps[1, 2] = 5
    found = explanations.agreements(maps, effects)
    assert found[0, 1] == pytest.approx(spearmanr(maps[0, 1].ravel(), effects[0, 1])[0])
    assert found[1, 0] == pytest.approx(spearmanr(maps[1, 0].ravel(), effects[1, 0])[0])
    assert found[1, 2] == 0


def test_covering_a_cell_shows_which_angle_it_moves():
    class Stub:
        """Yaw is the brightness of the cell in row 2, column 5; nothing moves the others."""

        def predict_on_batch(self, crops):
            seen = crops[:, 64:96, 160:192].mean(axis=(1, 2, 3))[:, None]
            return {"yaw": seen, "pitch": 0 * seen, "roll": 0 * seen}

    image = np.full((224, 224, 3), 50, np.uint8)
    image[64:96, 160:192] = 250
    effects = explanations.occlusion_effect(Stub(), image)
    assert np.flatnonzero(effects[0]).tolist() == [2 * 7 + 5] and effects[0].max() > 150
    assert (effects[1:] == 0).all()


def test_synthetic_heads_are_the_same_for_a_seed_and_lie_in_their_masks():
    (crops, masks), (again, _) = explanations.synthetic_crops(2, 3), explanations.synthetic_crops(2, 3)
    assert (crops == again).all() and crops.shape == (2, 224, 224, 3) and masks.shape == (2, 224, 224)
    assert ((masks.mean(axis=(1, 2)) > 0.3) & (masks.mean(axis=(1, 2)) < 0.95)).all()
    assert masks[:, 100:124, 100:124].all()


def test_a_mask_has_the_crop_of_its_image(monkeypatch):
    mask = np.zeros((300, 300), bool)
    mask[120:190, 80:200] = True
    facts = {"mask": mask, "box": (100, 90, 100)}
    image = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
    monkeypatch.setattr(explanations, "render_head", lambda *arguments, **options: (image, facts))
    crops, masks = explanations.synthetic_crops(1, 0)
    np.testing.assert_array_equal(masks, crops[..., 0] > 127)


def test_marked_parts_are_replaced_and_nothing_else():
    text = "a\n<!-- measured: x -->\nold\nold\n<!-- /measured -->\nb\n<!-- measured: y -->\nkept\n<!-- /measured -->\n"
    assert explanations.with_parts(text, {"x": r"new \1"}) == text.replace("old\nold", r"new \1")
    with pytest.raises(InputError, match="measured: z"):
        explanations.with_parts(text, {"z": ""})


@pytest.mark.slow
def test_the_program_writes_what_it_measured_and_both_figures(gated, explainer, tmp_path, monkeypatch):
    build = rafa_model.build_rafa_net
    monkeypatch.setattr(rafa_model, "build_rafa_net", lambda backbone, weights: build("tiny", weights))
    gated.save(tmp_path / "w.keras")
    command = [
        "x",
        "--weights",
        str(tmp_path / "w.keras"),
        "--doc",
        str(tmp_path / "doc"),
        "--heads",
        "2",
        "--seed",
        "1",
    ]
    monkeypatch.setattr(sys, "argv", command)
    explanations.main()
    text = (tmp_path / "doc/explanations.md").read_text(encoding="utf-8")
    crops, masks = explanations.synthetic_crops(2, 1)
    local = np.stack([np.abs(explainer(crops).local[axis]) for axis in AXES], axis=1)
    shares = explanations.shares_inside(local, masks)
    assert f"| trained | local: \\|L\\| | {shares[:, 0].mean():.1%} [" in text
    assert f"| yaw | {100 * (shares[:, 0] - masks.mean(axis=(1, 2))).mean():+.1f} [" in text
    assert "--weights w.keras --heads 2 --seed 1`" in text and str(tmp_path) not in text
    for name in ("grad_cam.png", "architecture.png"):
        assert read_image(tmp_path / "doc" / name).shape[1] > 600


def test_the_drawn_architecture_has_the_shapes_of_the_model(gated):
    trunk, branch = explanations.architecture_stages(gated)
    assert [name for name, _ in trunk] == ["RGB crop", "conv1", "conv2", "conv3"]
    assert dict(trunk)["RGB crop"] == (224, 224, 3) and dict(trunk)["conv3"] == (14, 14, 64)
    assert dict(branch)["conv5"] == dict(branch)["self-attention"] == (7, 7, 128)
    assert dict(branch)["coarse-to-fine pooling"] == (35, 128) and branch[-1] == ("weighted attention", (128,))


# --- The drawing of the network ---------------------------------------------------------------------------------------
def test_the_diagram_shows_the_trunk_once_and_the_branch_in_the_column_and_colour_of_each_axis(drawn):
    trunk, branch = [("crop", (224, 224, 3)), ("conv4", (14, 14, 64))], [("conv5", (7, 7, 128)), ("pool", (35, 128))]
    explanations.draw_architecture("x.png", trunk, branch, "The network")
    plot = drawn[0].axes[0]
    places = {}
    for text in plot.texts:
        places.setdefault(text.get_text(), []).append(text.get_position())
    assert [len(places[label]) for label in ("The network", "crop", "conv4", "conv5", "pool", *AXES)] == [
        *(1, 1, 1, 3, 3, 1, 1, 1)
    ]
    columns = [places[axis][0][0] for axis in AXES]
    assert columns == sorted(columns) and [x for x, _ in places["conv5"]] == columns
    heights = [places[label][0][1] for label in ("The network", "crop", "conv4", "conv5", "pool", "yaw")]
    assert heights == sorted(heights, reverse=True)
    assert "14 × 14 × 64" in places and len(places["35 × 128"]) == 3
    frames = [patch for patch in plot.patches if hasattr(patch, "get_boxstyle")]
    for axis, x in zip(AXES, columns, strict=True):
        mine = [frame for frame in frames if abs(frame.get_x() + frame.get_width() / 2 - x) < 0.1]
        assert (
            sum(to_rgb(frame.get_edgecolor()) == pytest.approx(np.divide(AXIS_COLOURS[axis], 255)) for frame in mine)
            == 3
        )


def test_arrows_lead_down_from_each_stage_to_the_next(drawn):
    explanations.draw_architecture("x.png", [("a", (1,)), ("b", (1,))], [("c", (1,))], "")
    arrows = [(text.xyann, text.xy) for text in drawn[0].axes[0].texts if hasattr(text, "xyann")]
    assert len(arrows) == 1 + 3 + 3
    assert all(start[1] > end[1] for start, end in arrows)
    assert [(start[0], end[0]) for start, end in arrows[1::2]] == [(0, -3.15), (0, 0), (0, 3.15)]
