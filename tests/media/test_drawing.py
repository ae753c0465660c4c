"""Drawings point where the head points, stay inside the image, and leave their input alone."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.images import NOISE, at, extent, grey, has_colour, read_rgb

from rafa.heads.renderer import render_head
from rafa.heads.shape import random_identity
from rafa.media import drawing
from rafa.pose import AXES, AXIS_COLOURS, WHITE, YELLOW, rotation_matrix
from rafa.script import InputError

SIGNS = list(itertools.product((-1, 1), repeat=3))
GREY = grey(120, 160)
RIGHT_DOWN_NOSE = [AXIS_COLOURS[axis] for axis in ("pitch", "yaw", "roll")]  # red, green, blue


def axes_by_hand(yaw, pitch, mat_roll):
    """Rx(pitch) Ry(-yaw) Rz(roll) multiplied out in the signs of the `.mat` files."""
    sy, cy, sp, cp = np.sin(-yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch)
    sr, cr = np.sin(mat_roll), np.cos(mat_roll)
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return about_x @ about_y @ about_z


def middle_of(mask):
    """x, y of the middle of a mask's pixels."""
    return np.argwhere(mask).mean(axis=0)[::-1]


# --- Axes -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("signs", SIGNS)
def test_axes_end_where_the_mat_formula_puts_them(signs):
    yaw, pitch, roll = np.array(signs) * (0.7, 0.4, 0.3)
    ends = drawing.axis_points((yaw, pitch, roll), (100, 50), 40)
    np.testing.assert_allclose(ends, np.array((100, 50)) + 40 * axes_by_hand(yaw, pitch, -roll)[:2].T, atol=1e-9)


def test_signs_of_the_lists_in_words():
    right, down, nose = drawing.axis_points((0.5, 0.3, 0.2), (0, 0), 1)
    assert nose[0] < 0, "yaw > 0 turns the nose to the left of the image"
    assert nose[1] < 0, "pitch > 0 looks up"
    right, down, nose = drawing.axis_points((0, 0, 0.2), (0, 0), 1)
    assert right[1] < 0 < down[0], "roll > 0 tilts the head counter-clockwise"
    np.testing.assert_allclose(nose, 0, atol=1e-12)


@pytest.mark.parametrize("signs", SIGNS)
def test_each_axis_is_drawn_in_its_colour_from_the_centre_to_its_end(signs):
    angles, centre, length = np.array(signs) * (0.8, 0.5, 0.3), np.array((150.0, 140.0)), 100
    drawn = drawing.draw_axes(grey(280, 300), angles, centre, length)
    directions = axes_by_hand(angles[0], angles[1], -angles[2])[:2].T  # of the axes to the right, down, and the nose
    for direction, colour in zip(directions, RIGHT_DOWN_NOSE, strict=True):
        for part in (0.6, 0.8, 0.97):
            assert at(drawn, centre + part * length * direction) == colour
        beyond = centre + (length + 15) * direction / np.linalg.norm(direction)
        assert at(drawn, centre + length * direction + (beyond - centre) * 0.15) == (128, 128, 128)


def test_only_the_nose_ends_in_a_disc():
    angles, centre = (0.8, 0.5, 0.3), np.array((150.0, 140.0))
    drawn = drawing.draw_axes(grey(280, 300), angles, centre, 105)  # lines of 3 pixels, a disc of 11
    for end, colour in zip(drawing.axis_points(angles, centre, 105), RIGHT_DOWN_NOSE, strict=True):
        along = (end - centre) / np.linalg.norm(end - centre)
        across = end + 4 * np.array((-along[1], along[0]))
        assert (at(drawn, across) == colour) == (colour == AXIS_COLOURS["roll"])


@pytest.mark.parametrize(("yaw", "on_top"), [(0.3, True), (np.pi - 0.3, False)])
def test_the_axis_nearest_to_the_viewer_is_drawn_last(yaw, on_top):
    drawn = drawing.draw_axes(GREY, (yaw, 0.1, 0), (80, 60), 150)
    assert has_colour(drawn, AXIS_COLOURS["roll"])[60, 80] == on_top


def test_one_colour_tells_a_second_pose_apart():
    drawn = drawing.draw_axes(GREY, (0.5, 0.3, 0.2), (80, 60), 40, colour=(255, 0, 255))
    assert has_colour(drawn, (255, 0, 255)).any()
    assert not any(has_colour(drawn, colour).any() for colour in AXIS_COLOURS.values())


@pytest.mark.parametrize("signs", SIGNS)
def test_the_nose_axis_follows_the_nose_of_a_rendered_head(signs):
    angles, rng = np.array(signs) * (0.7, 0.4, 0.3), np.random.default_rng(4)
    _, facts = render_head(random_identity(rng), angles, size=120, rng=rng)
    beside = facts["landmarks"][:2, [0, 1, 15, 16]]  # at the ears; weighted, as high as the tip of the nose
    nose = facts["landmarks"][:2, 30] - np.average(beside, axis=1, weights=(3, 17, 17, 3))
    drawn = drawing.axis_points(angles, (0, 0), 40)[2]
    turn = np.arctan2(nose[0] * drawn[1] - nose[1] * drawn[0], nose @ drawn)
    assert abs(np.degrees(turn)) < 2


# --- Cube -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("angles", [(-0.6, 0.5, 0.2), (0.6, -0.5, 0.2), (2.5, 0.5, 0.2)])
def test_edges_of_the_cube_have_the_colour_of_their_axis_and_are_thin_where_hidden(angles):
    middle, half = np.array((250, 250)), rotation_matrix(angles) * 140  # columns: half an edge along each axis
    drawn = drawing.draw_cube(grey(500, 500), angles, middle, 280)
    nearest = np.sign(half[2])  # the corner that comes closest to the viewer
    for axis, side in itertools.product(range(3), (1, -1)):
        x, y = np.round(middle + half[:2] @ (side * nearest * np.where(np.arange(3) == axis, 0.4, 1))).astype(int)
        part = drawn[y - 4 : y + 5, x - 4 : x + 5]
        assert has_colour(part, RIGHT_DOWN_NOSE[axis]).any() or side == -1
        assert (part.min(axis=-1) > 150).any() == (side == 1), "only visible edges have a white casing"


def test_a_cube_from_the_front_has_the_size_asked_for():
    drawn = drawing.draw_cube(grey(200, 220), (0, 0, 0), (110, 90), 80).astype(int)
    red, green = drawn[..., 0] - drawn[..., 2] > 150, drawn[..., 1] - drawn[..., 0] > 100
    assert extent(red)[:2] == pytest.approx((90 - 40, 90 + 40), abs=1), "turned about by pitch: above and below"
    assert extent(green)[2:] == pytest.approx((110 - 40, 110 + 40), abs=1), "turned about by yaw: left and right"


def yellowness(image):
    """How much the filled face has pulled each pixel of a grey image towards yellow."""
    return image[..., :2].min(axis=-1).astype(int) - image[..., 2]


@pytest.mark.parametrize("signs", SIGNS)
def test_the_filled_face_of_the_cube_lies_where_the_nose_points(signs):
    angles = np.array(signs) * (0.7, 0.4, 0.3)
    drawn = drawing.draw_cube(grey(200, 200), angles, (100, 100), 90)
    nose = drawing.axis_points(angles, (100, 100), 45)[2]
    np.testing.assert_allclose(middle_of(yellowness(drawn) > 30), nose, atol=4)


def test_the_face_of_a_head_that_looks_away_is_fainter():
    towards, away = (yellowness(drawing.draw_cube(GREY, (yaw, 0, 0), (80, 60), 60))[60, 80] for yaw in (0, np.pi))
    assert towards > 1.5 * away > 0


# --- Boxes and poses --------------------------------------------------------------------------------------------------
def test_a_box_lies_on_its_outermost_pixels():
    drawn = drawing.draw_box(np.zeros((100, 120, 3), np.uint8), (20, 50, 40))
    assert extent(has_colour(drawn, YELLOW)) == (20, 59, 50, 89)
    assert not drawn[23:57, 53:87].any()


@pytest.mark.parametrize("style", drawing.STYLES)
def test_a_pose_is_drawn_around_the_middle_of_its_box_and_reaches_over_its_edge(style):
    image, box, angles, centre = grey(400, 400), (150, 100, 201), (0.5, -0.2, 0.3), (200, 250)
    expected = drawing.draw_box(image, box, WHITE)
    if style != "axes":
        expected = drawing.draw_cube(expected, angles, centre, 0.6 * 201)
    if style != "cube":
        expected = drawing.draw_axes(expected, angles, centre, 0.6 * 201)
    drawn = drawing.draw_pose(image, box, angles, style)
    np.testing.assert_array_equal(drawn[150:], expected[150:])


def test_the_angles_are_written_above_the_box_from_its_left_edge_each_in_its_colour():
    drawn = drawing.draw_pose(grey(400, 500), (150, 100, 200), (0.1, -0.2, 0.3), "axes")
    above = drawn[:148]  # where the box has not begun
    places = [np.argwhere(has_colour(above, AXIS_COLOURS[axis])) for axis in AXES]
    assert min(map(len, places)) > 50
    assert all(places[i][:, 1].max() < places[i + 1][:, 1].min() for i in (0, 1)), "yaw, pitch, roll from the left"
    letters = np.concatenate(places)
    assert 125 < letters[:, 0].min() <= letters[:, 0].max() < 150
    assert 100 <= letters[:, 1].min() < 110


def test_the_written_angles_are_degrees(monkeypatch):
    written = []
    monkeypatch.setattr(drawing, "write_words", lambda canvas, *arguments: written.append(arguments))
    drawing.draw_pose(GREY, (30, 50, 60), np.radians((12.34, -5, 0)))
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
    inside = ink(drawing.write_words(grey(100, 300), WORDS, (60, 60), 16))
    moved = ink(drawing.write_words(grey(100, 300), WORDS, corner, 16))
    assert moved.sum() == pytest.approx(inside.sum(), rel=0.05) and inside.sum() > 1e4


@pytest.mark.parametrize("shape", [(90, 300), (300, 90), (40, 60), (20, 300)])
def test_letters_that_do_not_fit_become_smaller_and_stand_in_a_column(shape):
    found = ink(drawing.write_words(grey(*shape), WORDS, (5, 5), 60))
    edge = np.concatenate([found[0], found[-1], found[:, 0], found[:, -1]])
    assert found.max() > 150 and edge.max() == 0
    rows, columns = np.nonzero(found > 60)
    assert np.ptp(rows) > 0.55 * shape[0] or np.ptp(columns) > 0.55 * shape[1], "no smaller than they must be"


def test_letters_too_small_to_read_are_not_written():
    np.testing.assert_array_equal(drawing.write_words(grey(12, 30), WORDS, (5, 5), 13), grey(12, 30))


@pytest.mark.parametrize(
    ("shape", "box"),
    [((1, 1), (0, 0, 1)), ((24, 24), (2, 2, 18)), ((60, 400), (-30, 380, 90)), ((2000, 3000), (-1e5, 1e5, 4e5))],
)
def test_images_and_boxes_of_any_size_are_drawn(shape, box):
    drawn = drawing.draw_pose(grey(*shape), box, (0.4, 0.2, -0.1), "both")
    assert drawn.shape == (*shape, 3)
    assert (drawn != 128).any()


# --- Files and habits -------------------------------------------------------------------------------------------------
def test_a_saved_image_is_read_back_unchanged(tmp_path):
    drawing.save_image(NOISE, tmp_path / "new" / "é.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "new" / "é.png"), NOISE)


def test_an_image_in_no_known_format_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.txt"):
        drawing.save_image(NOISE, tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "draw",
    [
        lambda image: drawing.draw_axes(image, (0.1, 0.2, 0.3), (60, 60), 40),
        lambda image: drawing.draw_cube(image, (0.1, 0.2, 0.3), (60, 60), 40),
        lambda image: drawing.draw_box(image, (20, 20, 60)),
        lambda image: drawing.draw_pose(image, (20, 20, 60), (0.1, 0.2, 0.3), "both"),
    ],
)
def test_drawing_leaves_its_input_alone(draw):
    for image in (NOISE.copy(), NOISE[:, ::-1]):  # the second is a view that cv2 could not draw on
        before = image.copy()
        drawn = draw(image)
        np.testing.assert_array_equal(image, before)
        assert drawn.dtype == np.uint8 and not np.shares_memory(drawn, image)


def test_importing_loads_no_plotting_library_and_nothing_loads_its_global_state(tmp_path):
    code = f"""
import sys
import numpy as np
from rafa.media import drawing, panels
assert "matplotlib" not in sys.modules and "tensorflow" not in sys.modules
drawing.save_image(panels.panel([np.zeros((9, 9, 3), np.uint8)], ["a"], 1), {str(tmp_path / "m.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(drawing.__file__).parents[2])
