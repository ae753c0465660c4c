"""Drawings point where the head points, stay inside the image, and leave their input alone."""

import functools
import itertools
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from rafa.datasets.lists import read_lists
from rafa.heads import renderer as head_renderer
from rafa.media import drawing as figures
from rafa.pose import AXES, AXIS_COLOURS, WHITE, YELLOW, rotation_matrix
from rafa.script import InputError

SIGNS = list(itertools.product((-1, 1), repeat=3))
GREY = np.full((120, 160, 3), 128, np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
CELLS = np.array([(0, 0, 0.5, 0.5), (0, 0.5, 0.5, 1), (0, 0, 1, 1)])
RIGHT_DOWN_NOSE = [AXIS_COLOURS[axis] for axis in ("pitch", "yaw", "roll")]  # red, green, blue


def axes_by_hand(yaw, pitch, mat_roll):
    """Rx(pitch) Ry(-yaw) Rz(roll) multiplied out in the signs of the `.mat` files."""
    sy, cy, sp, cp = np.sin(-yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch)
    sr, cr = np.sin(mat_roll), np.cos(mat_roll)
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def has_colour(image, colour):
    return (image == colour).all(axis=-1)


def at(image, point):
    """The colour at x, y."""
    column, row = np.round(point).astype(int)
    return tuple(image[row, column].tolist())


def middle_of(mask):
    """x, y of the middle of a mask's pixels."""
    return np.argwhere(mask).mean(axis=0)[::-1]


def extent(mask):
    """First and last row, first and last column of a mask's pixels."""
    rows, columns = np.nonzero(mask)
    return rows.min(), rows.max(), columns.min(), columns.max()


def grey(*shape):
    return np.full((*shape, 3), 128, np.uint8)


# --- Axes -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("signs", SIGNS)
def test_axes_end_where_the_mat_formula_puts_them(signs):
    yaw, pitch, roll = np.array(signs) * (0.7, 0.4, 0.3)
    ends = figures.axis_points((yaw, pitch, roll), (100, 50), 40)
    np.testing.assert_allclose(ends, np.array((100, 50)) + 40 * axes_by_hand(yaw, pitch, -roll)[:2].T, atol=1e-9)


def test_signs_of_the_lists_in_words():
    right, down, nose = figures.axis_points((0.5, 0.3, 0.2), (0, 0), 1)
    assert nose[0] < 0, "yaw > 0 turns the nose to the left of the image"
    assert nose[1] < 0, "pitch > 0 looks up"
    right, down, nose = figures.axis_points((0, 0, 0.2), (0, 0), 1)
    assert right[1] < 0 < down[0], "roll > 0 tilts the head counter-clockwise"
    np.testing.assert_allclose(nose, 0, atol=1e-12)


@pytest.mark.parametrize("signs", SIGNS)
def test_each_axis_is_drawn_in_its_colour_from_the_centre_to_its_end(signs):
    angles, centre, length = np.array(signs) * (0.8, 0.5, 0.3), np.array((150.0, 140.0)), 100
    drawn = figures.draw_axes(grey(280, 300), angles, centre, length)
    directions = axes_by_hand(angles[0], angles[1], -angles[2])[:2].T  # of the axes to the right, down, and the nose
    for direction, colour in zip(directions, RIGHT_DOWN_NOSE, strict=True):
        for part in (0.6, 0.8, 0.97):
            assert at(drawn, centre + part * length * direction) == colour
        beyond = centre + (length + 15) * direction / np.linalg.norm(direction)
        assert at(drawn, centre + length * direction + (beyond - centre) * 0.15) == (128, 128, 128)


def test_only_the_nose_ends_in_a_disc():
    angles, centre = (0.8, 0.5, 0.3), np.array((150.0, 140.0))
    drawn = figures.draw_axes(grey(280, 300), angles, centre, 105)  # lines of 3 pixels, a disc of 11
    for end, colour in zip(figures.axis_points(angles, centre, 105), RIGHT_DOWN_NOSE, strict=True):
        along = (end - centre) / np.linalg.norm(end - centre)
        across = end + 4 * np.array((-along[1], along[0]))
        assert (at(drawn, across) == colour) == (colour == AXIS_COLOURS["roll"])


@pytest.mark.parametrize(("yaw", "on_top"), [(0.3, True), (np.pi - 0.3, False)])
def test_the_axis_nearest_to_the_viewer_is_drawn_last(yaw, on_top):
    drawn = figures.draw_axes(GREY, (yaw, 0.1, 0), (80, 60), 150)
    assert has_colour(drawn, AXIS_COLOURS["roll"])[60, 80] == on_top


def test_one_colour_tells_a_second_pose_apart():
    drawn = figures.draw_axes(GREY, (0.5, 0.3, 0.2), (80, 60), 40, colour=(255, 0, 255))
    assert has_colour(drawn, (255, 0, 255)).any()
    assert not any(has_colour(drawn, colour).any() for colour in AXIS_COLOURS.values())


@pytest.mark.parametrize("signs", SIGNS)
def test_the_nose_axis_follows_the_nose_of_a_rendered_head(signs):
    angles, rng = np.array(signs) * (0.7, 0.4, 0.3), np.random.default_rng(4)
    _, facts = head_renderer.render_head(head_renderer.random_identity(rng), angles, size=120, rng=rng)
    nose, drawn = facts["nose_tip"] - facts["nose_base"], figures.axis_points(angles, (0, 0), 40)[2]
    turn = np.arctan2(nose[0] * drawn[1] - nose[1] * drawn[0], nose @ drawn)
    assert abs(np.degrees(turn)) < 2


# --- Cube -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("angles", [(-0.6, 0.5, 0.2), (0.6, -0.5, 0.2), (2.5, 0.5, 0.2)])
def test_edges_of_the_cube_have_the_colour_of_their_axis_and_are_thin_where_hidden(angles):
    middle, half = np.array((250, 250)), rotation_matrix(angles) * 140  # columns: half an edge along each axis
    drawn = figures.draw_cube(grey(500, 500), angles, middle, 280)
    nearest = np.sign(half[2])  # the corner that comes closest to the viewer
    for axis, side in itertools.product(range(3), (1, -1)):
        x, y = np.round(middle + half[:2] @ (side * nearest * np.where(np.arange(3) == axis, 0.4, 1))).astype(int)
        part = drawn[y - 4 : y + 5, x - 4 : x + 5]
        assert has_colour(part, RIGHT_DOWN_NOSE[axis]).any() or side == -1
        assert (part.min(axis=-1) > 150).any() == (side == 1), "only visible edges have a white casing"


def test_a_cube_from_the_front_has_the_size_asked_for():
    drawn = figures.draw_cube(grey(200, 220), (0, 0, 0), (110, 90), 80).astype(int)
    red, green = drawn[..., 0] - drawn[..., 2] > 150, drawn[..., 1] - drawn[..., 0] > 100
    assert extent(red)[:2] == pytest.approx((90 - 40, 90 + 40), abs=1), "turned about by pitch: above and below"
    assert extent(green)[2:] == pytest.approx((110 - 40, 110 + 40), abs=1), "turned about by yaw: left and right"


def yellowness(image):
    """How much the filled face has pulled each pixel of a grey image towards yellow."""
    return image[..., :2].min(axis=-1).astype(int) - image[..., 2]


@pytest.mark.parametrize("signs", SIGNS)
def test_the_filled_face_of_the_cube_lies_where_the_nose_points(signs):
    angles = np.array(signs) * (0.7, 0.4, 0.3)
    drawn = figures.draw_cube(grey(200, 200), angles, (100, 100), 90)
    nose = figures.axis_points(angles, (100, 100), 45)[2]
    np.testing.assert_allclose(middle_of(yellowness(drawn) > 30), nose, atol=4)


def test_the_face_of_a_head_that_looks_away_is_fainter():
    towards, away = (yellowness(figures.draw_cube(GREY, (yaw, 0, 0), (80, 60), 60))[60, 80] for yaw in (0, np.pi))
    assert towards > 1.5 * away > 0


# --- Boxes and poses --------------------------------------------------------------------------------------------------
def test_a_box_lies_on_its_outermost_pixels():
    drawn = figures.draw_box(np.zeros((100, 120, 3), np.uint8), (20, 50, 40))
    assert extent(has_colour(drawn, YELLOW)) == (20, 59, 50, 89)
    assert not drawn[23:57, 53:87].any()


@pytest.mark.parametrize("style", figures.STYLES)
def test_a_pose_is_drawn_around_the_middle_of_its_box_and_reaches_over_its_edge(style):
    image, box, angles, centre = grey(400, 400), (150, 100, 201), (0.5, -0.2, 0.3), (200, 250)
    expected = figures.draw_box(image, box, WHITE)
    if style != "axes":
        expected = figures.draw_cube(expected, angles, centre, 0.6 * 201)
    if style != "cube":
        expected = figures.draw_axes(expected, angles, centre, 0.6 * 201)
    drawn = figures.draw_pose(image, box, angles, style)
    np.testing.assert_array_equal(drawn[150:], expected[150:])


def test_the_angles_are_written_above_the_box_from_its_left_edge_each_in_its_colour():
    drawn = figures.draw_pose(grey(400, 500), (150, 100, 200), (0.1, -0.2, 0.3), "axes")
    above = drawn[:148]  # where the box has not begun
    places = [np.argwhere(has_colour(above, AXIS_COLOURS[axis])) for axis in AXES]
    assert min(map(len, places)) > 50
    assert all(places[i][:, 1].max() < places[i + 1][:, 1].min() for i in (0, 1)), "yaw, pitch, roll from the left"
    letters = np.concatenate(places)
    assert 125 < letters[:, 0].min() <= letters[:, 0].max() < 150
    assert 100 <= letters[:, 1].min() < 110


def test_the_written_angles_are_degrees(monkeypatch):
    written = []
    monkeypatch.setattr(figures, "_write", lambda canvas, *arguments: written.append(arguments))
    figures.draw_pose(GREY, (30, 50, 60), np.radians((12.34, -5, 0)))
    [(words, corner, size)] = written
    assert words == [
        (f"{axis} {text}°", AXIS_COLOURS[axis]) for axis, text in zip(AXES, ("+12.3", "-5.0", "+0.0"), strict=True)
    ]
    assert (corner, size) == ((50, 30), 13), "x, y of the top left corner of the box"


RED = (255, 0, 0)
WORDS = [("yaw +12.3°", RED), ("a café", RED)]


def ink(image):
    """How much red the letters of WORDS have brought to a grey image."""
    return np.clip(image[..., 0].astype(int) - image[..., 1], 0, None)


@pytest.mark.parametrize("corner", list(itertools.product((-500, 0, 30, 500), repeat=2)))
def test_letters_are_moved_into_the_image_whole(corner):
    inside = ink(figures._write(grey(100, 300), WORDS, (60, 60), 16))
    moved = ink(figures._write(grey(100, 300), WORDS, corner, 16))
    assert moved.sum() == pytest.approx(inside.sum(), rel=0.05) and inside.sum() > 1e4


@pytest.mark.parametrize("shape", [(90, 300), (300, 90), (40, 60), (20, 300)])
def test_letters_that_do_not_fit_become_smaller_and_stand_in_a_column(shape):
    found = ink(figures._write(grey(*shape), WORDS, (5, 5), 60))
    edge = np.concatenate([found[0], found[-1], found[:, 0], found[:, -1]])
    assert found.max() > 150 and edge.max() == 0
    rows, columns = np.nonzero(found > 60)
    assert np.ptp(rows) > 0.55 * shape[0] or np.ptp(columns) > 0.55 * shape[1], "no smaller than they must be"


def test_letters_too_small_to_read_are_not_written():
    np.testing.assert_array_equal(figures._write(grey(12, 30), WORDS, (5, 5), 13), grey(12, 30))


@pytest.mark.parametrize(
    ("shape", "box"),
    [((1, 1), (0, 0, 1)), ((24, 24), (2, 2, 18)), ((60, 400), (-30, 380, 90)), ((2000, 3000), (-1e5, 1e5, 4e5))],
)
def test_images_and_boxes_of_any_size_are_drawn(shape, box):
    drawn = figures.draw_pose(grey(*shape), box, (0.4, 0.2, -0.1), "both")
    assert drawn.shape == (*shape, 3)
    assert (drawn != 128).any()


# --- Maps -------------------------------------------------------------------------------------------------------------
def test_the_hottest_cell_has_the_brightest_colour_and_the_map_covers_the_image():
    heat = np.zeros((7, 7))
    heat[1, 5] = 1
    drawn = figures.overlay_heat(np.zeros((147, 217, 3), np.uint8), heat)
    row, column = np.unravel_index(drawn.sum(axis=-1, dtype=int).argmax(), (147, 217))
    assert (row, column) == (21 + 10, 5 * 31 + 15), "the middle of the cell"
    assert drawn[row, column].tolist() == [126, 128, 82], "half of the last colour of inferno, RGB"


@pytest.mark.parametrize("level", [0, 0.5, 1])
@pytest.mark.parametrize("shape", [(7, 7), (1, 1), (500, 500)])
def test_in_a_constant_map_nothing_is_hot(level, shape):
    drawn = figures.overlay_heat(GREY, np.full(shape, level))
    assert (drawn <= GREY).all()
    assert np.ptp(drawn.reshape(-1, 3), axis=0).max() == 0


def test_a_map_replaces_half_of_the_image():
    heat = np.linspace(0, 1, 49).reshape(7, 7)
    over_black, over_white = (figures.overlay_heat(np.full_like(NOISE, level), heat).astype(int) for level in (0, 255))
    np.testing.assert_allclose(over_white - over_black, 127.5, atol=1)


def test_region_heat_by_hand():
    heat = figures.region_heat((0.5, 0.25, 0.25), CELLS, (2, 2))
    np.testing.assert_allclose(heat, [[2.25, 1.25], [0.25, 0.25]])


@pytest.mark.parametrize("shape", [(7, 7), (224, 224), (100, 33)])
def test_region_heat_keeps_the_sum_of_the_weights(shape):
    rng = np.random.default_rng(1)
    start = rng.uniform(0, 0.5, (35, 2))
    boxes = np.concatenate([start, start + rng.uniform(0.1, 0.5, (35, 2))], axis=1)
    heat = figures.region_heat(rng.dirichlet(np.ones(35)), boxes, shape)
    assert heat.shape == shape
    np.testing.assert_allclose(heat.mean(), 1, rtol=1e-12)


def test_regions_are_drawn_where_their_weight_is():
    drawn = figures.overlay_regions(np.zeros((80, 80, 3), np.uint8), (0.1, 0.8, 0.1), CELLS)
    quarters = drawn.sum(axis=-1, dtype=int).reshape(2, 40, 2, 40).mean(axis=(1, 3))
    assert quarters.argmax() == 1


def test_attention_is_drawn_over_its_cell_and_marks_the_one_that_asks():
    weights = np.full(49, 0.01)
    weights[3 * 7 + 5] = 0.5
    plain, marked = (figures.overlay_attention(np.zeros((70, 70, 3), np.uint8), weights, cell) for cell in (None, 9))
    row, column = np.unravel_index(plain.sum(axis=-1, dtype=int).argmax(), (70, 70))
    assert (row // 10, column // 10) == (3, 5)
    assert middle_of((plain != marked).any(axis=-1)) == pytest.approx((24.5, 14.5), abs=0.6), "of cell (1, 2)"


def test_uniform_attention_shows_no_noise():
    weights = np.full(49, 1 / 49) + np.random.default_rng(2).normal(0, 1e-8, 49)
    drawn = figures.overlay_attention(GREY, weights)
    assert np.ptp(drawn.reshape(-1, 3), axis=0).max() == 0


# --- Sheets -----------------------------------------------------------------------------------------------------------
COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]


def test_a_panel_holds_every_image_in_reading_order_scaled_to_the_tile():
    images = [
        np.full((shape, 90, 3), colour, np.uint8) for shape, colour in zip((45, 60, 90, 180), COLOURS, strict=True)
    ]
    sheet = figures.panel(images, ["(a) yaw", "(b) pitch", "(c) roll", "$x_1$ é"], 3, title="Title", tile=100)
    places = [extent(has_colour(sheet, colour)) for colour in COLOURS]
    sizes = [(bottom - top + 1, right - left + 1) for top, bottom, left, right in places]
    assert sizes == [(50, 100), (67, 100), (100, 100), (100, 50)]
    middles = np.array([((top + bottom) / 2, (left + right) / 2) for top, bottom, left, right in places])
    np.testing.assert_allclose(middles[1:3] - middles[0], [(0, 116), (0, 232)], atol=1)
    assert middles[3][0] > middles[0][0] + 100 and abs(middles[3][1] - middles[0][1]) <= 1


TEXT = (
    "a caption long enough to need more than one line under so narrow a tile, and_one_word_that_is_longer_than_the_tile"
)


@pytest.mark.parametrize(("draw", "side"), [(figures.panel, -1), (functools.partial(figures.panel, below=True), 1)])
def test_titles_stand_above_and_captions_below_and_no_letter_is_cut_or_covered(draw, side):
    red = [np.full((60, 60, 3), (255, 0, 0), np.uint8)] * 3
    sheet = draw(red, ["short", TEXT, TEXT], 2, tile=120)
    letters = (sheet < 100).all(axis=-1)
    images = has_colour(sheet, (255, 0, 0))
    assert images.sum() == 3 * 120 * 120, "no letter on an image"
    rows = np.flatnonzero(images.any(axis=1))
    first = rows[: np.argmax(np.diff(rows) > 1) + 1]
    above, below = letters[: first[0]].any(), letters[first[-1] : rows[-1] - 119].any()
    assert above == (side < 0)
    assert below
    assert not letters[[0, -1]].any() and not letters[:, [0, 1, -2, -1]].any()


def test_a_title_and_a_footnote_are_wrapped_into_the_sheet():
    plain, titled = (
        figures.panel([GREY], ["a"], 1, title=text, footnote=text, tile=150) for text in ("", f"{TEXT} {TEXT}")
    )
    assert len(titled) > len(plain) + 150
    letters = (titled < 100).all(axis=-1)
    top, bottom, left, right = extent(letters)
    assert top > 0 and bottom < len(titled) - 4 and left > 10 and right < titled.shape[1] - 10


def test_a_saved_image_is_read_back_unchanged(tmp_path):
    figures.save_image(NOISE, tmp_path / "new" / "é.png")
    read = cv2.imdecode(np.frombuffer((tmp_path / "new" / "é.png").read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read[..., ::-1], NOISE)


def test_an_image_in_no_known_format_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.txt: OpenCV cannot write this image"):
        figures.save_image(NOISE, tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


# --- The worst images -------------------------------------------------------------------------------------------------
def test_a_tile_shows_the_box_with_its_surroundings_and_both_poses():
    image = grey(200, 200)
    image[40:100, 60:120] = (90, 0, 90)  # the box
    record, row = {"row": 40, "column": 60, "size": 60}, {"true": (40, 30, 10), "predicted": (-40, 20, -10)}
    tile, scale = figures.pose_tile(image, record, row), 280 / 120  # half the box around it
    assert tile.shape == (280, 280, 3)
    top, bottom, left, right = extent(has_colour(tile, YELLOW))
    assert (top, bottom, left, right) == pytest.approx((30 * scale, 90 * scale, 30 * scale, 90 * scale), abs=2)
    assert at(tile, (30 * scale + 9, 30 * scale + 9)) == (90, 0, 90)
    assert at(tile, (30 * scale - 9, 30 * scale - 9)) == (128, 128, 128)
    length = 0.55 * 60 * scale
    true = figures.axis_points(np.radians(row["true"]), (140, 140), length)
    predicted = figures.axis_points(np.radians(row["predicted"]), (140, 140), 0.85 * length)
    assert [at(tile, point) for point in true] == [WHITE] * 3
    assert [at(tile, point) for point in predicted] == RIGHT_DOWN_NOSE


def test_the_worst_images_are_shown_in_order_with_their_angles(tmp_path, monkeypatch):
    for name, shade in (("a", 250), ("b", 60)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((90, 90, 3), shade, np.uint8))
    (tmp_path / "crop.txt").write_text("a.png\t20 20 40 40\nb.png\t20 20 40 40\n")
    (tmp_path / "angles.txt").write_text("a.png\t0\t0\t0\nb.png\t0\t0\t0\n")
    listed = read_lists(tmp_path / "crop.txt", tmp_path / "angles.txt", "degrees", tmp_path)
    rows = [
        {"path": "b.png", "true": [1, 2, 3], "predicted": [4, 5, -36.6], "mae": 15.2},
        {"path": "a.png", "true": [0, 0, 0], "predicted": [0, 0, 3], "mae": 1},
    ]
    shown = []
    monkeypatch.setattr(figures, "heading", lambda card: f"a result of {card}")
    monkeypatch.setattr(figures, "panel", lambda *a, **k: shown.append((a, k)) or GREY)
    figures.draw_worst(tmp_path / "worst.png", listed, {"worst": rows, "card": "mine"})
    [((tiles, captions, _), options)] = shown
    assert [tile[5, 5, 0] for tile in tiles] == [60, 250]
    assert captions[0] == "b.png\nmean error 15.2°\nyaw +1 → +4\npitch +2 → +5\nroll +3 → -37"
    assert options["title"].startswith("a result of mine: the 2 images")
    assert (tmp_path / "worst.png").is_file()


# --- Habits -----------------------------------------------------------------------------------------------------------
DRAWINGS = {
    "draw_axes": lambda image: figures.draw_axes(image, (0.1, 0.2, 0.3), (60, 60), 40),
    "draw_cube": lambda image: figures.draw_cube(image, (0.1, 0.2, 0.3), (60, 60), 40),
    "draw_box": lambda image: figures.draw_box(image, (20, 20, 60)),
    "draw_pose": lambda image: figures.draw_pose(image, (20, 20, 60), (0.1, 0.2, 0.3), "both"),
    "overlay_heat": lambda image: figures.overlay_heat(image, np.eye(7)),
    "overlay_regions": lambda image: figures.overlay_regions(image, (0.5, 0.3, 0.2), CELLS),
    "overlay_attention": lambda image: figures.overlay_attention(image, np.arange(49) / 1176, 24),
    "panel": lambda image: figures.panel([image], ["title"], 1),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_drawing_leaves_its_input_alone(draw):
    for image in (NOISE.copy(), NOISE[:, ::-1]):  # the second is a view that cv2 could not draw on
        before = image.copy()
        drawn = draw(image)
        np.testing.assert_array_equal(image, before)
        assert drawn.dtype == np.uint8
        assert not np.shares_memory(drawn, image)


def test_importing_loads_no_plotting_library_and_nothing_loads_its_global_state(tmp_path):
    code = f"""
import sys
import numpy as np
from rafa.media import drawing, panels
assert "matplotlib" not in sys.modules and "tensorflow" not in sys.modules
drawing.save_image(panels.panel([np.zeros((9, 9, 3), np.uint8)], ["a"], 1), {str(tmp_path / "m.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(figures.__file__).parents[1])
