"""Maps are the gradients they claim to be, weights add up to 1, and shares of mass are measured as they are told."""

import keras
import numpy as np
import pytest

import data_loaders
import predict
import rafa_model
from data_loaders import AXES
from util import explain

# Pale, so that the attention of a random network is no choice of one cell: that would make cells equal, and maxima tie.
CROPS = np.random.default_rng(0).integers(95, 135, (2, 224, 224, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    """A tiny network whose self-attention takes part."""
    keras.utils.set_random_seed(5)
    network = rafa_model.build_rafa_net("tiny", weights=None)
    for axis, gate in zip(AXES, (0.5, -0.25, 2.0), strict=True):
        network.get_layer(f"{axis}_self_attention").gamma.assign([gate])
    return network


@pytest.fixture(scope="module")
def found(model):
    return explain.Explainer(model)(CROPS)


def halves(model, axis):
    """The network in two: crops → attended map A, and A → angle."""
    attended = model.get_layer(f"{axis}_self_attention").output[0]
    return keras.Model(model.input, attended), keras.Model(attended, model.get_layer(axis).output)


def slope(tail, attended, direction, step):
    """The derivative of the angle along a direction in the space of maps, by differences."""
    above, below = (tail.predict_on_batch(attended + sign * step * direction)[:, 0] for sign in (1, -1))
    return (above - below) / (2 * step)


@pytest.mark.parametrize("axis", AXES)
def test_each_cell_of_l_says_how_the_angle_follows_that_cell(model, found, axis):
    first, tail = halves(model, axis)
    attended = first.predict_on_batch(CROPS.astype("float32"))
    for row, column in ((3, 3), *np.argwhere(np.abs(found.local[axis][0]) == np.abs(found.local[axis][0]).max())):
        direction = np.zeros_like(attended)
        direction[:, row, column] = attended[:, row, column]
        expected = slope(tail, attended, direction, 2e-4)
        scale = np.abs(found.local[axis]).max()
        assert found.local[axis][:, row, column] == pytest.approx(expected, abs=0.05 * float(scale))


@pytest.mark.parametrize("axis", AXES)
def test_each_cell_of_m_weighs_its_channels_by_the_mean_gradient(model, found, axis):
    first, tail = halves(model, axis)
    attended = first.predict_on_batch(CROPS.astype("float32"))
    direction = np.broadcast_to(attended[:, 2:3, 4:5], attended.shape)  # the channels of one cell, everywhere
    expected = slope(tail, attended, direction, 2e-4) / 49
    assert found.signed[axis][:, 2, 4] == pytest.approx(expected, rel=0.05, abs=0.02 * float(np.abs(expected).max()))


def test_angles_are_those_of_the_network_and_gates_those_of_its_attention(model, found):
    answers = model.predict_on_batch(CROPS)
    assert found.angles == pytest.approx(np.concatenate([answers[axis] for axis in AXES], axis=1), abs=1e-5)
    assert found.gates == pytest.approx({"yaw": 0.5, "pitch": -0.25, "roll": 2.0})


@pytest.mark.parametrize("axis", AXES)
def test_attention_and_region_weights_add_up_to_one(found, axis):
    assert found.attention[axis].shape == (2, 49, 49) and found.regions[axis].shape == (2, 35)
    assert found.attention[axis].sum(axis=-1) == pytest.approx(1, abs=1e-5)
    assert found.regions[axis].sum(axis=-1) == pytest.approx(1, abs=1e-5)


def test_region_weights_say_how_much_a_region_counts_in_what_the_regressor_sees(model, found):
    names = [model.get_layer("yaw_regions").output, model.get_layer("yaw_weighted_attention").output[0]]
    regions, seen = keras.Model(model.input, names).predict_on_batch(CROPS)
    assert np.einsum("bn,bnc->bc", found.regions["yaw"], regions) == pytest.approx(seen, rel=1e-3, abs=1e-4)


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


def test_rules_take_signs_as_they_say():
    signed, local = ({axis: sign * np.array([[[1.0, -2.0]]]) for axis in AXES} for sign in (1, -3))
    angles = np.array([[-0.5, 0.5, 0.1]])
    found = explain.Explanation(angles, signed, local, {}, {}, {})
    assert found.cam("yaw").tolist() == [[[3, 6]]]
    assert found.cam("yaw", "absolute").tolist() == [[[1, 2]]]
    assert found.cam("yaw", "positive").tolist() == [[[1, 0]]]
    assert found.cam("yaw", "towards").tolist() == [[[0, 2]]]
    assert found.cam("pitch", "towards").tolist() == [[[1, 0]]]


# --- Pictures ---------------------------------------------------------------------------------------------------------


def test_a_face_gets_a_panel_and_its_pictures_by_themselves(model, tmp_path, monkeypatch):
    monkeypatch.setattr(rafa_model, "load_rafa_net", lambda path: model)
    (tmp_path / "w.keras").touch()
    explain.figures.save_image(CROPS[0], tmp_path / "a.png")
    arguments = [str(tmp_path / "a.png"), "--weights", str(tmp_path / "w.keras"), "--box", "0", "0", "200"]
    assert predict.main([*arguments, "--explain", str(tmp_path / "why"), "--singles", "--cell", "0", "6"]) == 0
    kinds = ("gradcam", "attention", "cell", "regions")
    singles = {f"a-png-face0-{kind}-{axis}.png" for kind in kinds for axis in AXES}
    assert {path.name for path in (tmp_path / "why").iterdir()} == {"a-png-face0.png", *singles}
    panel = data_loaders.read_image(tmp_path / "why/a-png-face0.png")
    assert panel.shape[0] > 4 * 224 and panel.shape[1] > 3 * 224
    pictures = [data_loaders.read_image(tmp_path / "why" / name) for name in sorted(singles)]
    assert all(picture.shape == (224, 224, 3) for picture in pictures)
    assert len({picture.tobytes() for picture in pictures}) == 12


def test_another_rule_and_another_cell_draw_another_picture(found):
    usual = explain.explanation_tiles(CROPS[0], found, 0)
    other = explain.explanation_tiles(CROPS[0], found, 0, cell=(6, 0), rule="absolute")
    for kind, same in (("gradcam", False), ("attention", True), ("cell", False), ("regions", True)):
        assert (usual[kind]["yaw"][1] == other[kind]["yaw"][1]).all() == same
    assert usual["gradcam"]["yaw"][0].startswith("(a) yaw") and usual["gradcam"]["roll"][0].startswith("(c) roll")


def test_faces_of_a_video_are_told_apart_by_frame_and_face(model, tmp_path):
    sink = explain.Explanations(model, tmp_path)
    source = sources.Source("v.mp4", tmp_path.relative_to(tmp_path) / "v.mp4", "video")
    frame = sources.Frame(
        source, 12, CROPS[0], faces=[sources.Face((0, 0, 224), CROPS[0]), sources.Face((0, 0, 9), CROPS[1])]
    )
    sink.write(frame)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "v-mp4-frame000012-face0.png",
        "v-mp4-frame000012-face1.png",
    ]


# --- Measuring --------------------------------------------------------------------------------------------------------


def test_the_share_inside_a_mask_is_one_for_mass_inside_and_the_area_for_an_even_map():
    mask = np.zeros((224, 224), bool)
    mask[:112] = True
    above, even = np.zeros((7, 7)), np.ones((7, 7))
    above[1] = 1
    assert explain.share_inside(above, mask) == pytest.approx(1)
    assert explain.share_inside(above[::-1], mask) == pytest.approx(0)
    assert explain.share_inside(even, mask) == pytest.approx(0.5)
    assert explain.share_inside(0 * even, mask) == pytest.approx(0.5)


def test_covering_a_cell_shows_which_angle_it_moves():
    class Stub:
        """Yaw is the brightness of the cell in row 2, column 5; nothing moves the others."""

        def predict_on_batch(self, crops):
            seen = crops[:, 64:96, 160:192].mean(axis=(1, 2, 3))[:, None]
            return {"yaw": seen, "pitch": 0 * seen, "roll": 0 * seen}

    picture = np.full((224, 224, 3), 50, np.uint8)
    picture[64:96, 160:192] = 250
    effects = explain.occlusion_effect(Stub(), picture)
    assert np.flatnonzero(effects[0]).tolist() == [2 * 7 + 5] and effects[0].max() > 150
    assert (effects[1:] == 0).all()


def test_generated_heads_are_the_same_for_a_seed_and_lie_in_their_masks():
    (crops, masks), (again, _) = explain.generated_heads(2, 3), explain.generated_heads(2, 3)
    assert (crops == again).all() and crops.shape == (2, 224, 224, 3) and masks.shape == (2, 224, 224)
    assert ((masks.mean(axis=(1, 2)) > 0.3) & (masks.mean(axis=(1, 2)) < 0.95)).all()
    assert masks[:, 100:124, 100:124].all()


def test_the_document_holds_what_was_measured_and_the_figures_are_small(model, tmp_path, monkeypatch):
    build = rafa_model.build_rafa_net
    monkeypatch.setattr(rafa_model, "build_rafa_net", lambda backbone, weights: build("tiny", weights))
    model.save(tmp_path / "w.keras")
    text = explain.write_documents(tmp_path / "w.keras", tmp_path / "doc", heads=2, seed=1)
    assert (tmp_path / "doc/explanations.md").read_text(encoding="utf-8") == text
    shares = explain.measure_shares(model, *explain.generated_heads(2, 1))
    assert f"| trained | local: \\|L\\| | {shares['local'][:, 0].mean():.1%} [" in text
    assert "on 2 generated heads, seed 1" in text and "does not name their layer" in text and "commit" in text
    for name in ("grad_cam.png", "architecture.png"):
        assert data_loaders.read_image(tmp_path / "doc" / name).size
        assert (tmp_path / "doc" / name).stat().st_size < 400_000


def test_the_drawn_architecture_has_the_shapes_of_the_model(model):
    trunk, branch = explain.architecture_stages(model)
    assert [name for name, _ in trunk] == ["RGB crop", "conv1", "conv2", "conv3"]
    assert dict(trunk)["RGB crop"] == (224, 224, 3) and dict(trunk)["conv3"] == (14, 14, 64)
    assert dict(branch)["conv5"] == dict(branch)["self-attention"] == (7, 7, 128)
    assert dict(branch)["coarse-to-fine pooling"] == (35, 128) and branch[-1][1] == (128,)
