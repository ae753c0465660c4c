"""Drawings point where the head points, stay inside the picture, leave their input alone; plots say what they hold."""

import itertools
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from data_loaders import AXES, rotation_matrix
from util import figures
from util.errors import InputError

SIGNS = list(itertools.product((-1, 1), repeat=3))
GREY = np.full((120, 160, 3), 128, np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
CELLS = np.array([(0, 0, 0.5, 0.5), (0, 0.5, 0.5, 1), (0, 0, 1, 1)])


def axes_by_hand(yaw, pitch, mat_roll):
    """Rx(pitch) Ry(-yaw) Rz(roll) multiplied out in the signs of the `.mat` files."""
    sy, cy, sp, cp = np.sin(-yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch)
    sr, cr = np.sin(mat_roll), np.cos(mat_roll)
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def has_colour(picture, colour):
    return (picture == colour).all(axis=-1)


def png(path):
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


# --- Poses ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("signs", SIGNS)
def test_axes_end_where_the_mat_formula_puts_them(signs):
    yaw, pitch, roll = np.array(signs) * (0.7, 0.4, 0.3)
    ends = figures.axis_points((yaw, pitch, roll), (100, 50), 40)
    np.testing.assert_allclose(ends, np.array((100, 50)) + 40 * axes_by_hand(yaw, pitch, -roll)[:2].T, atol=1e-9)
    nose = rotation_matrix((yaw, pitch, roll)) @ (0, 0, 1)
    np.testing.assert_allclose(ends[2] - (100, 50), 40 * nose[:2], atol=1e-9)


def test_signs_of_the_lists_in_words():
    right, down, nose = figures.axis_points((0.5, 0.3, 0.2), (0, 0), 1)
    assert nose[0] < 0, "yaw > 0 turns the nose to the left of the picture"
    assert nose[1] < 0, "pitch > 0 looks up"
    right, down, nose = figures.axis_points((0, 0, 0.2), (0, 0), 1)
    assert right[1] < 0 < down[0], "roll > 0 tilts the head counter-clockwise"
    np.testing.assert_allclose(nose, 0, atol=1e-12)


@pytest.mark.parametrize("signs", SIGNS)
def test_the_blue_pixels_lie_along_the_nose(signs):
    angles, centre = np.array(signs) * (0.8, 0.5, 0.3), np.array((100.0, 90.0))
    drawn = figures.draw_axes(np.full((180, 200, 3), 128, np.uint8), angles, centre, 70)
    rows, columns = np.nonzero(has_colour(drawn, figures.AXIS_COLOURS["roll"]))
    offset = np.mean(np.stack([columns, rows], axis=1), axis=0) - centre
    direction = axes_by_hand(angles[0], angles[1], -angles[2])[:2, 2]
    along, across = offset @ direction, offset[0] * direction[1] - offset[1] * direction[0]
    assert along > 10
    assert np.degrees(abs(np.arctan2(across, along))) < 4


def test_one_colour_tells_a_second_pose_apart():
    drawn = figures.draw_axes(GREY, (0.5, 0.3, 0.2), (80, 60), 40, colour=(255, 0, 255))
    assert has_colour(drawn, (255, 0, 255)).any()
    assert not any(has_colour(drawn, colour).any() for colour in figures.AXIS_COLOURS.values())


@pytest.mark.parametrize(("yaw", "on_top"), [(0.3, True), (np.pi - 0.3, False)])
def test_the_axis_nearest_to_the_viewer_is_drawn_last(yaw, on_top):
    drawn = figures.draw_axes(GREY, (yaw, 0.1, 0), (80, 60), 150)
    assert has_colour(drawn, figures.AXIS_COLOURS["roll"])[60, 80] == on_top


def test_edges_at_the_far_corner_of_the_cube_are_thin():
    angles, middle = (-0.6, 0.5, 0.2), np.array((250, 250))
    drawn = figures.draw_cube(np.full((500, 500, 3), 128, np.uint8), angles, middle, 280)
    axes = rotation_matrix(angles) * 140  # columns: half an edge along each axis of the head
    nearest = np.sign(axes[2])  # the corner of the cube that comes closest to the viewer
    for axis, side in itertools.product(range(3), (1, -1)):
        x, y = np.round(middle + (axes[:2] @ (side * nearest * np.where(np.arange(3) == axis, 0.4, 1)))).astype(int)
        cased = (drawn[y - 5 : y + 6, x - 5 : x + 6].min(axis=-1) > 220).any()
        assert cased == (side == 1)


def yellowness(picture):
    """How much the filled face has pulled each pixel of a grey picture towards yellow."""
    return picture[..., :2].min(axis=-1).astype(int) - picture[..., 2]


@pytest.mark.parametrize("signs", SIGNS)
def test_the_filled_face_of_the_cube_lies_where_the_nose_points(signs):
    angles = np.array(signs) * (0.7, 0.4, 0.3)
    drawn = figures.draw_cube(np.full((200, 200, 3), 128, np.uint8), angles, (100, 100), 90)
    nose = figures.axis_points(angles, (100, 100), 45)[2]
    rows, columns = np.nonzero(yellowness(drawn) > 30)
    np.testing.assert_allclose((columns.mean(), rows.mean()), nose, atol=4)


def test_the_face_of_a_head_that_looks_away_is_fainter():
    towards, away = (yellowness(figures.draw_cube(GREY, (yaw, 0, 0), (80, 60), 60))[60, 80] for yaw in (0, np.pi))
    assert towards > away > 0


def test_a_box_starts_at_its_row_and_column():
    drawn = figures.draw_box(np.zeros((100, 120, 3), np.uint8), 20, 50, 40)
    rows, columns = np.nonzero(drawn[..., 0] > 200)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 59, 50, 89)


def test_the_label_of_a_box_is_written_above_it():
    plain, labelled = (figures.draw_box(GREY, 60, 20, 50, label=label) for label in (None, "face 1"))
    rows, columns = np.nonzero((plain != labelled).any(axis=-1))
    assert 30 < rows.min() <= rows.max() < 62
    assert columns.min() > 15


@pytest.mark.parametrize("style", figures.STYLES)
def test_pose_drawing_writes_each_angle_in_its_colour(style):
    drawn = figures.draw_pose(np.full((400, 400, 3), 60, np.uint8), (150, 100, 200), (0.1, -0.2, 0.3), style)
    above = drawn[:145]
    assert all(has_colour(above, colour).sum() > 20 for colour in figures.AXIS_COLOURS.values())


def test_the_written_angles_are_degrees(monkeypatch):
    written = []
    monkeypatch.setattr(figures, "_write", lambda canvas, rows, corner, size: written.append((rows, tuple(corner))))
    figures.draw_pose(GREY, (30, 50, 60), np.radians((12.34, -5, 0)), caption="café")
    [(rows, corner)] = written
    assert [text for row in rows for text, _ in row] == ["café", "yaw +12.3°", "pitch -5.0°", "roll +0.0°"]
    assert corner == (50, 30), "x, y of the top left corner of the box"


@pytest.mark.parametrize("corner", list(itertools.product((-500, 0, 30, 500), repeat=2)))
@pytest.mark.parametrize("shape", [(90, 300), (300, 60), (40, 40), (20, 300), (8, 8)])
def test_no_letter_reaches_beyond_the_picture(monkeypatch, shape, corner):
    canvas, boxes = np.full((*shape, 3), 128, np.uint8), []

    def record(patch, letters, _colour, _pen):
        address = np.array(np.lib.array_utils.byte_bounds(patch)) - np.lib.array_utils.byte_bounds(canvas)
        assert address[0] >= 0 >= address[1], "the patch is a part of the canvas"
        points = np.concatenate(letters) / 4
        boxes.append((points.min(), *(patch.shape[1::-1] - points.max(axis=0))))

    monkeypatch.setattr(figures, "_ink", record)
    figures._write(canvas, [[("yaw +12.3°", (255, 0, 0))], [("a $ and a $", (255, 0, 0))]], corner, 20)
    assert len(boxes) == 4
    assert np.min(boxes) >= 0


@pytest.mark.parametrize(
    ("shape", "box"),
    [((1, 1), (0, 0, 1)), ((24, 24), (2, 2, 18)), ((60, 400), (-30, 380, 90)), ((2000, 3000), (-1e5, 1e5, 4e5))],
)
def test_pictures_and_boxes_of_any_size_are_drawn(shape, box):
    drawn = figures.draw_pose(
        np.full((*shape, 3), 90, np.uint8), box, (0.4, 0.2, -0.1), "both", caption="a long caption"
    )
    assert drawn.shape == (*shape, 3)
    assert drawn.dtype == np.uint8
    assert (drawn != 90).any()


@pytest.mark.parametrize("signs", SIGNS)
def test_the_nose_axis_follows_the_nose_of_a_rendered_head(signs):
    import head_renderer

    angles, rng = np.array(signs) * (0.7, 0.4, 0.3), np.random.default_rng(4)
    _, facts = head_renderer.render_head(head_renderer.random_identity(rng), angles, size=120, rng=rng)
    nose, drawn = facts["nose_tip"] - facts["nose_base"], figures.axis_points(angles, (0, 0), 40)[2]
    turn = np.arctan2(nose[0] * drawn[1] - nose[1] * drawn[0], nose @ drawn)
    assert abs(np.degrees(turn)) < 2


# --- Maps -------------------------------------------------------------------------------------------------------------
def test_the_hottest_cell_is_the_brightest_and_the_map_covers_the_picture():
    heat = np.zeros((7, 7))
    heat[1, 5] = 1
    drawn = figures.overlay_heat(np.zeros((140, 210, 3), np.uint8), heat, alpha=1)
    row, column = np.unravel_index(drawn.sum(axis=-1, dtype=int).argmax(), (140, 210))
    assert (row // 20, column // 30) == (1, 5)


@pytest.mark.parametrize("level", [0, 0.5, 1])
@pytest.mark.parametrize("shape", [(7, 7), (1, 1), (500, 500)])
def test_in_a_constant_map_nothing_is_hot(level, shape):
    drawn = figures.overlay_heat(GREY, np.full(shape, level), alpha=0.5)
    assert (drawn <= GREY).all()
    assert np.ptp(drawn.reshape(-1, 3), axis=0).max() == 0


def test_alpha_blends_between_picture_and_map():
    heat = np.linspace(0, 1, 49).reshape(7, 7)
    np.testing.assert_array_equal(figures.overlay_heat(NOISE, heat, alpha=0), NOISE)
    full = figures.overlay_heat(NOISE, heat, alpha=1)
    np.testing.assert_array_equal(full, figures.overlay_heat(np.zeros_like(NOISE), heat, alpha=1))


def test_region_heat_by_hand():
    heat = figures.region_heat((0.5, 0.25, 0.25), CELLS, (2, 2))
    np.testing.assert_allclose(heat, [[2.25, 1.25], [0.25, 0.25]])


@pytest.mark.parametrize("shape", [(7, 7), (224, 224), (100, 33)])
def test_region_heat_keeps_the_sum_of_the_weights(shape):
    rng = np.random.default_rng(1)
    start = rng.uniform(0, 0.5, (35, 2))
    boxes = np.concatenate([start, start + rng.uniform(0.1, 0.5, (35, 2))], axis=1)
    weights = rng.dirichlet(np.ones(35))
    heat = figures.region_heat(weights, boxes, shape)
    assert heat.shape == shape
    np.testing.assert_allclose(heat.mean(), 1, rtol=1e-12)


def test_regions_are_drawn_where_their_weight_is():
    drawn = figures.overlay_regions(np.zeros((80, 80, 3), np.uint8), (0.1, 0.8, 0.1), CELLS, alpha=1)
    quarters = drawn.sum(axis=-1, dtype=int).reshape(2, 40, 2, 40).mean(axis=(1, 3))
    assert quarters.argmax() == 1


def test_attention_is_drawn_over_its_cell_and_marks_the_one_that_asks():
    weights = np.full(49, 0.01)
    weights[3 * 7 + 5] = 0.5
    plain, marked = (figures.overlay_attention(np.zeros((70, 70, 3), np.uint8), weights, cell, 1) for cell in (None, 9))
    row, column = np.unravel_index(plain.sum(axis=-1, dtype=int).argmax(), (70, 70))
    assert (row // 10, column // 10) == (3, 5)
    rows, columns = np.nonzero((plain != marked).any(axis=-1))
    assert (round(rows.mean()), round(columns.mean())) in {(14, 24), (15, 25)}, "the middle of cell (1, 2)"


def test_uniform_attention_shows_no_noise():
    weights = np.full(49, 1 / 49) + np.random.default_rng(2).normal(0, 1e-8, 49)
    drawn = figures.overlay_attention(GREY, weights)
    assert np.ptp(drawn.reshape(-1, 3), axis=0).max() == 0


# --- Sheets and plots -------------------------------------------------------------------------------------------------
def test_a_panel_holds_every_picture_in_reading_order():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]
    pictures = [np.full((50 + 30 * number, 90, 3), colour, np.uint8) for number, colour in enumerate(colours)]
    sheet = figures.panel(pictures, ["(a) yaw", "(b) pitch", "(c) roll", "$x_1$ é"], 3, title="Title", footnote="Note")
    middles = [np.argwhere(has_colour(sheet, colour)).mean(axis=0) for colour in colours]
    assert middles[0][1] < middles[1][1] < middles[2][1]
    assert middles[3][0] > max(middle[0] for middle in middles[:3]) + 200
    assert abs(middles[3][1] - middles[0][1]) < 2


def ink_rows(sheet):
    """Rows with dark letters on the white of a sheet whose only picture is red."""
    return np.flatnonzero(((sheet < 100).all(axis=-1)).any(axis=1))


def test_titles_stand_above_and_captions_below():
    red = [np.full((60, 60, 3), (255, 0, 0), np.uint8)]
    for draw, side in ((figures.panel, "above"), (figures.contact_sheet, "below")):
        sheet = draw(red, ["a caption long enough to need more than one line under so narrow a tile"], 1, tile=120)
        picture = np.flatnonzero(has_colour(sheet, (255, 0, 0)).any(axis=1))
        ink = ink_rows(sheet)
        assert len(ink) > 15, "two lines or more"
        assert (ink.max() < picture.min()) if side == "above" else (ink.min() > picture.max())
        assert 0 < ink.min() <= ink.max() < len(sheet) - 1


def test_a_saved_picture_is_read_back_unchanged(tmp_path):
    figures.save_image(NOISE, tmp_path / "é.png")
    read = cv2.imdecode(np.frombuffer((tmp_path / "é.png").read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read[..., ::-1], NOISE)


def test_sparse_bins_give_no_percentiles_and_hand_over_their_samples():
    angle, error = np.array([-12.0, 1, 2, 3, 25]), np.array([9.0, 1, 2, 3, 7])
    middle, counts, spread, sparse = figures._binned(angle, error, 10, 3)
    np.testing.assert_array_equal(middle, [-15, -5, 5, 15, 25])
    np.testing.assert_array_equal(counts, [1, 0, 3, 0, 1])
    np.testing.assert_allclose(spread[2], [1.1, 1.5, 2, 2.5, 2.9])
    assert np.isnan(spread[[0, 1, 3, 4]]).all()
    np.testing.assert_array_equal(sparse, [True, False, False, False, True])


@pytest.mark.parametrize("count", [1, 5, 400])
def test_error_by_angle_is_plotted_in_the_colours_of_the_axes(tmp_path, count):
    rng = np.random.default_rng(3)
    figures.plot_error_by_angle(rng.normal(0, 30, (count, 3)), rng.normal(0, 4, (count, 3)), tmp_path / "a.png")
    drawn = png(tmp_path / "a.png")[..., ::-1]
    assert all(has_colour(drawn, colour).sum() > 50 for colour in figures.AXIS_COLOURS.values())


def test_margin_sweep_is_plotted_with_bands_and_marks_and_is_reproducible(tmp_path):
    margins, values = np.linspace(0, 0.5, 6), {"yaw": np.arange(1.0, 7), "MAE": np.arange(2.0, 8)}
    low, high = ({name: curve + step for name, curve in values.items()} for step in (-0.2, 0.2))
    figures.plot_margin_sweep(margins, values, tmp_path / "plain.png")
    for name in ("one.png", "two.png"):
        marked = [(0, "released code: 0"), (0.2, "paper: 0.2")]
        figures.plot_margin_sweep(margins, values, tmp_path / name, marked=marked, low=low, high=high)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert (png(tmp_path / "one.png") != png(tmp_path / "plain.png")).any()
    assert has_colour(png(tmp_path / "plain.png")[..., ::-1], figures.AXIS_COLOURS["yaw"]).sum() > 200


def test_the_architecture_shows_every_branch_in_its_colour(tmp_path):
    trunk, branch = [("input", (224, 224, 3)), ("conv1 ... conv4", (14, 14, 1024))], [("conv5", (7, 7, 2048))]
    figures.draw_architecture(trunk, branch, tmp_path / "short.png")
    figures.draw_architecture(trunk, branch * 3, tmp_path / "long.png")
    short, long = png(tmp_path / "short.png")[..., ::-1], png(tmp_path / "long.png")
    assert len(long) > len(short) + 150
    middles = [np.argwhere(has_colour(short, figures.AXIS_COLOURS[axis])).mean(axis=0) for axis in AXES]
    assert middles[0][1] < middles[1][1] - 100 < middles[2][1] - 200


# --- Habits -----------------------------------------------------------------------------------------------------------
DRAWINGS = {
    "draw_axes": lambda picture: figures.draw_axes(picture, (0.1, 0.2, 0.3), (60, 60), 40),
    "draw_cube": lambda picture: figures.draw_cube(picture, (0.1, 0.2, 0.3), (60, 60), 40),
    "draw_box": lambda picture: figures.draw_box(picture, 20, 20, 60, label="face"),
    "draw_pose": lambda picture: figures.draw_pose(picture, (20, 20, 60), (0.1, 0.2, 0.3), "both"),
    "overlay_heat": lambda picture: figures.overlay_heat(picture, np.eye(7)),
    "overlay_regions": lambda picture: figures.overlay_regions(picture, (0.5, 0.3, 0.2), CELLS),
    "overlay_attention": lambda picture: figures.overlay_attention(picture, np.arange(49) / 1176, 24),
    "panel": lambda picture: figures.panel([picture], ["title"], 1),
}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_drawing_leaves_its_input_alone(draw):
    for picture in (NOISE.copy(), NOISE[:, ::-1]):  # the second is a view that cv2 could not draw on
        before = picture.copy()
        drawn = draw(picture)
        np.testing.assert_array_equal(picture, before)
        assert drawn.dtype == np.uint8
        assert not np.shares_memory(drawn, picture)


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
@pytest.mark.parametrize("picture", [NOISE / 255, NOISE[..., 0], NOISE[:0], NOISE.tolist(), None])
def test_what_is_no_rgb_picture_is_refused(draw, picture):
    with pytest.raises(InputError, match="expected an RGB uint8 array"):
        draw(picture)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: figures.draw_axes(GREY, (np.nan, 0, 0), (5, 5), 9), "1 of 3 values are not finite"),
        (lambda: figures.draw_axes(GREY, (0, 0), (5, 5), 9), r"shape \(2,\) was given; expected \(3,\)"),
        (lambda: figures.draw_cube(GREY, (0, 0, 0), (5, np.inf), 9), "Centre.*not finite"),
        (lambda: figures.draw_cube(GREY, (0, 0, 0), (5, 5), 0), "Length in pixels: 0 to 0 was given"),
        (lambda: figures.draw_box(GREY, 0, 0, -4), "Size of the box.*-4"),
        (lambda: figures.draw_box(GREY, "top", 0, 4), "expected numbers"),
        (lambda: figures.draw_pose(GREY, (0, 0, 9, 9), (0, 0, 0)), r"Box .*shape \(4,\)"),
        (lambda: figures.draw_pose(GREY, (0, 0, 9), (0, 0, 0), "arrows"), "'arrows' was given; expected one of axes"),
        (lambda: figures.overlay_heat(GREY, np.eye(3) * 255), "0 to 255 was given; expected values from 0 to 1"),
        (lambda: figures.overlay_heat(GREY, np.eye(3), 1.5), "Alpha"),
        (lambda: figures.overlay_heat(GREY, np.zeros((0, 3))), "Heat map: shape"),
        (lambda: figures.overlay_regions(GREY, np.ones(4) / 4, CELLS), r"shape \(3, 4\) was given; expected \(4, 4\)"),
        (lambda: figures.overlay_regions(GREY, np.ones(3), CELLS * 224), "fractions of the crop"),
        (lambda: figures.overlay_regions(GREY, np.ones(3), CELLS[:, [2, 3, 0, 1]]), "row0 < row1"),
        (lambda: figures.overlay_regions(GREY, -np.ones(3), CELLS), "Weights of the regions"),
        (lambda: figures.overlay_attention(GREY, np.ones(48)), "48 attention weights"),
        (lambda: figures.overlay_attention(GREY, np.ones(49), 49), "a cell on the map"),
        (lambda: figures.panel([GREY], ["a", "b"], 1), "1 pictures, 2 titles"),
        (lambda: figures.panel([], [], 1), "at least one picture"),
        (lambda: figures.plot_error_by_angle(np.zeros((0, 3)), np.zeros((0, 3)), "x"), "True angles"),
        (lambda: figures.plot_error_by_angle(np.zeros((2, 3)), np.zeros((3, 3)), "x"), "Errors in degrees"),
        (lambda: figures.plot_margin_sweep([0, 0.1], {"yaw": [1]}, "x"), "Errors of yaw"),
        (lambda: figures.plot_margin_sweep([0, 0.1], {"yaw": [1, np.nan]}, "x"), "1 of 2 values are not finite"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_importing_loads_no_plotting_library_and_plots_touch_no_global_state(tmp_path):
    code = f"""
import sys, figures
assert "matplotlib" not in sys.modules
figures.plot_margin_sweep([0, 0.1], {{"MAE": [1, 2]}}, {str(tmp_path / "m.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(figures.__file__).parent)
