"""Maps lie where their weight is, sheets cut no letter, and panels show the angles of the rows."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.images import NOISE, at, extent, grey, has_colour, read_rgb

from rafa.datasets.lists import read_lists
from rafa.media import panels
from rafa.media.drawing import axis_points
from rafa.media.sources import Face, Frame, Source
from rafa.net.explain import Explanation
from rafa.pose import AXES, AXIS_COLOURS, WHITE, YELLOW

CELLS = np.array([(0, 0, 0.5, 0.5), (0, 0.5, 0.5, 1), (0, 0, 1, 1)])
CROP = np.random.default_rng(0).integers(95, 135, (224, 224, 3), np.uint8)


def brightest(image):
    """Row and column of the brightest pixel."""
    return np.unravel_index(image.sum(axis=-1, dtype=int).argmax(), image.shape[:2])


def black(rows, columns):
    return np.zeros((rows, columns, 3), np.uint8)


# --- Heat maps --------------------------------------------------------------------------------------------------------
def test_the_hottest_cell_has_the_brightest_colour_and_the_map_covers_the_image():
    heat = np.zeros((7, 7))
    heat[1, 5] = 1
    drawn = panels.overlay_heat(black(147, 217), heat)
    assert brightest(drawn) == (21 + 10, 5 * 31 + 15), "the middle of the cell"
    assert drawn[brightest(drawn)].tolist() == [126, 128, 82], "half of the last colour of inferno, RGB"


@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_in_a_constant_map_nothing_is_hot(level):
    drawn = panels.overlay_heat(grey(120, 160), np.full((7, 7), level), level)
    assert (drawn <= 128).all() and np.ptp(drawn.reshape(-1, 3), axis=0).max() == 0


def test_a_map_replaces_half_of_the_image():
    heat = np.linspace(0, 1, 49).reshape(7, 7)
    over_black, over_white = (panels.overlay_heat(np.full_like(NOISE, level), heat).astype(int) for level in (0, 255))
    np.testing.assert_allclose(over_white - over_black, 127.5, atol=1)


def test_region_heat_by_hand_and_its_sum():
    heat = panels.region_heat((0.5, 0.25, 0.25), CELLS, (2, 2))
    np.testing.assert_allclose(heat, [[2.25, 1.25], [0.25, 0.25]])
    rng = np.random.default_rng(1)
    start = rng.uniform(0, 0.5, (35, 2))
    boxes = np.concatenate([start, start + rng.uniform(0.1, 0.5, (35, 2))], axis=1)
    heat = panels.region_heat(rng.dirichlet(np.ones(35)), boxes, (100, 33))
    assert heat.shape == (100, 33) and heat.mean() == pytest.approx(1, rel=1e-12)


def test_a_map_is_stretched_from_the_lowest_value_asked_for_to_its_highest():
    heat = np.linspace(2, 6, 49).reshape(7, 7)
    drawn = panels.overlay_heat(NOISE, heat, 2)
    assert (drawn == panels.overlay_heat(NOISE, np.linspace(0, 1, 49).reshape(7, 7))).all()
    assert (panels.overlay_heat(NOISE, heat) == panels.overlay_heat(NOISE, heat / 6)).all()


def test_uniform_attention_shows_no_noise():
    heat = 1 / 49 + np.random.default_rng(2).normal(0, 1e-8, (7, 7))
    drawn = panels.overlay_heat(grey(120, 160), heat, heat.min())
    assert np.ptp(drawn.reshape(-1, 3), axis=0).max() == 0


# --- Sheets -----------------------------------------------------------------------------------------------------------
TEXT = (
    "a caption long enough to need more than one line under so narrow a tile, and_one_word_that_is_longer_than_the_tile"
)


def test_a_panel_holds_every_image_in_reading_order_scaled_to_the_tile():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]
    images = [np.full((rows, 90, 3), colour, np.uint8) for rows, colour in zip((45, 60, 90, 180), colours, strict=True)]
    before = [image.copy() for image in images]
    sheet = panels.panel(images, ["(a) yaw", "(b) pitch", "(c) roll", "$x_1$ é"], 3, title="Title", tile=100)
    places = [extent(has_colour(sheet, colour)) for colour in colours]
    sizes = [(bottom - top + 1, right - left + 1) for top, bottom, left, right in places]
    assert sizes == [(50, 100), (67, 100), (100, 100), (100, 50)]
    middles = np.array([((top + bottom) / 2, (left + right) / 2) for top, bottom, left, right in places])
    np.testing.assert_allclose(middles[1:3] - middles[0], [(0, 116), (0, 232)], atol=1)
    assert middles[3][0] > middles[0][0] + 100 and abs(middles[3][1] - middles[0][1]) <= 1
    assert all((image == same).all() for image, same in zip(images, before, strict=True))


@pytest.mark.parametrize("below", [False, True])
def test_titles_stand_above_or_below_and_no_letter_is_cut_or_covered(below):
    red = [np.full((60, 60, 3), (255, 0, 0), np.uint8)] * 3
    sheet = panels.panel(red, ["short", TEXT, TEXT], 2, tile=120, below=below)
    letters, images = (sheet < 100).all(axis=-1), has_colour(sheet, (255, 0, 0))
    assert images.sum() == 3 * 120 * 120, "no letter on an image"
    rows = np.flatnonzero(images.any(axis=1))
    assert letters[: rows[0]].any() == (not below) and letters[rows[-1] + 1 :].any() == below
    assert not letters[[0, -1]].any() and not letters[:, [0, 1, -2, -1]].any()


def test_a_title_and_a_footnote_are_wrapped_into_the_sheet():
    plain, titled = (
        panels.panel([NOISE], ["a"], 1, title=text, footnote=text, tile=150) for text in ("", f"{TEXT} {TEXT}")
    )
    assert len(titled) > len(plain) + 150
    top, bottom, left, right = extent((titled < 5).all(axis=-1))
    assert top > 0 and bottom < len(titled) - 4 and left > 10 and right < titled.shape[1] - 10


# --- The worst images -------------------------------------------------------------------------------------------------
def test_a_tile_shows_the_box_with_its_surroundings_and_both_poses():
    image = grey(200, 200)
    image[40:100, 60:120] = (90, 0, 90)  # the box
    record, row = {"row": 40, "column": 60, "size": 60}, {"true": (40, 30, 10), "predicted": (-40, 20, -10)}
    tile, scale = panels.pose_tile(image, record, row), 280 / 120  # half the box around it
    assert tile.shape == (280, 280, 3)
    edges = extent(has_colour(tile, YELLOW))
    assert edges == pytest.approx((30 * scale, 90 * scale, 30 * scale, 90 * scale), abs=2)
    assert at(tile, (30 * scale + 9, 30 * scale + 9)) == (90, 0, 90)
    assert at(tile, (30 * scale - 9, 30 * scale - 9)) == (128, 128, 128)
    length = 0.55 * 60 * scale
    target = axis_points(np.radians(row["true"]), (140, 140), length)
    predicted = axis_points(np.radians(row["predicted"]), (140, 140), 0.85 * length)
    assert [at(tile, point) for point in target] == [WHITE] * 3
    assert [at(tile, point) for point in predicted] == [AXIS_COLOURS[axis] for axis in ("pitch", "yaw", "roll")]


@pytest.fixture
def shown(monkeypatch):
    """What was made into a sheet: images, titles, number of columns and options."""
    sheets = []

    def panel(images, titles, columns, **options):
        sheets.append((images, titles, columns, options))
        return grey(9, 9)

    monkeypatch.setattr(panels, "panel", panel)
    return sheets


def test_the_worst_images_are_shown_in_order_with_their_angles(tmp_path, shown):
    for name, shade in (("a", 250), ("b", 60)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((90, 90, 3), shade, np.uint8))
    (tmp_path / "crop.txt").write_text("a.png\t20 20 40 40\nb.png\t20 20 40 40\n")
    (tmp_path / "angles.txt").write_text("a.png\t0\t0\t0\nb.png\t0\t0\t0\n")
    listed = read_lists(tmp_path / "crop.txt", tmp_path / "angles.txt", "degrees", tmp_path)
    rows = [
        {"path": "b.png", "true": [1, 2, 3], "predicted": [4, 5, -36.6], "mae": 15.2},
        {"path": "a.png", "true": [0, 0, 0], "predicted": [0, 0, 3], "mae": 1},
    ]
    panels.draw_worst(tmp_path / "worst.png", listed, {"worst": rows}, "my result")
    [(tiles, captions, _, options)] = shown
    assert [tile[5, 5, 0] for tile in tiles] == [60, 250]
    assert captions[0] == "b.png\nmean error 15.2°\nyaw +1 → +4\npitch +2 → +5\nroll +3 → -37"
    assert options["title"].startswith("my result: the 2 images")
    assert (tmp_path / "worst.png").is_file()


# --- Explanations -----------------------------------------------------------------------------------------------------
@pytest.fixture
def explanation():
    """Maps of two crops, all of them different."""
    rng = np.random.default_rng(3)
    maps = [{axis: rng.random(shape) - low for axis in AXES} for shape, low in (((2, 7, 7), 0.5), ((2, 7, 7), 0.5))]
    weights = [
        {axis: rng.dirichlet(np.ones(shape[-1]), shape[:-1]) for axis in AXES} for shape in ((2, 49, 49), (2, 3))
    ]
    gates = dict(zip(AXES, (0.5, -0.25, 2.0), strict=True))
    angles = dict(zip(AXES, np.radians([(9, 12.34), (2, -5), (3, 0.5)]), strict=True))
    return Explanation(*maps, *weights, gates, CELLS, angles)


def test_tiles_show_the_maps_of_their_crop_and_axis(explanation):
    tiles = panels.explanation_tiles(CROP, explanation, index=1)
    for axis in AXES:
        heat = np.abs(explanation.local[axis][1])
        assert (tiles["gradcam"][axis][1] == panels.overlay_heat(CROP, heat / heat.max())).all()
        attention = np.reshape(explanation.attention[axis][1].mean(axis=0), (7, 7))
        assert (tiles["attention"][axis][1] == panels.overlay_heat(CROP, attention, attention.min())).all()
        regions = panels.region_heat(explanation.regions[axis][1], CELLS, (224, 224))
        assert (tiles["regions"][axis][1] == panels.overlay_heat(CROP, regions, regions.min())).all()
    titles = [[title for title, _ in row.values()] for row in tiles.values()]
    assert titles[0] == ["(a) yaw +12.3°: Grad-CAM", "(b) pitch -5.0°: Grad-CAM", "(c) roll +0.5°: Grad-CAM"]
    for title, axis, gate in zip(titles[1], AXES, ("+0.500", "-0.250", "+2.000"), strict=True):
        assert title.startswith(f"{axis}: ") and title.endswith(f"γ {gate}")


def test_a_face_gets_a_panel_named_by_its_frame_and_number(explanation, shown, tmp_path):
    asked = []
    sink = panels.Explanations(lambda crops: asked.append(crops) or explanation, tmp_path)
    source = Source("elsewhere/v.mp4", Path("sub/v.mp4"), "video")
    other = np.zeros_like(CROP)
    faces = [
        Face((0, 0, 9), crop=CROP, angles=np.radians((7, 0, 0))),  # the mean of several views
        Face((0, 0, 9), crop=other, angles=np.zeros(3), number=1),
    ]
    sink.write(Frame(source, 12, CROP, faces=faces))
    sink.write(Frame(Source("a.png", Path("a.png"), "image"), None, CROP, faces=faces[:1]))
    assert [crops.shape for crops in asked] == [(1, 224, 224, 3)] * 3 and (asked[1] == 0).all()
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.png"))
    assert written == ["a-png-face0.png", "sub/v-mp4-frame000012-face0.png", "sub/v-mp4-frame000012-face1.png"]
    images, titles, columns, _ = shown[0]
    assert len(images) == 9 and columns == 3 and titles[0] == "(a) yaw +9.0°: Grad-CAM"
    assert [sheet[3]["title"] for sheet in shown] == [
        "v.mp4, frame 12, face 0",
        "v.mp4, frame 12, face 1",
        "a.png, face 0",
    ]


def test_the_rule_reaches_the_map_and_the_note(explanation, shown, tmp_path):
    face = Face((0, 0, 9), crop=CROP, angles=np.zeros(3))
    frame = Frame(Source("a.png", Path("a.png"), "image"), None, CROP, faces=[face])
    panels.Explanations(lambda crops: explanation, tmp_path, "grad-cam").write(frame)
    [(images, _, _, options)] = shown
    heat = np.maximum(explanation.mean["yaw"][0], 0)
    assert (images[0] == panels.overlay_heat(CROP, heat / heat.max())).all() and "--cam grad-cam" in options["footnote"]


def test_a_panel_is_written_as_it_is_made(explanation, tmp_path):
    face = Face((0, 0, 9), crop=CROP, angles=np.zeros(3))
    panels.Explanations(lambda crops: explanation, tmp_path).write(
        Frame(Source("a.png", Path("a.png"), "image"), None, CROP, faces=[face])
    )
    assert min(read_rgb(tmp_path / "a-png-face0.png").shape[:2]) > 3 * 280
