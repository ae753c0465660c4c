"""The embedded data set: heads look where their labels say, and every file of the set tells the same story."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import loadmat

import synthetic_heads
from data_loaders import rotation_matrix
from util import head_renderer
from util.errors import InputError

SMALL = {"train": 6, "test": 2, "videos": 1, "frames": 3, "seed": 5}
MIRROR_PAIRS = (
    (0, 16),
    (7, 9),
    (17, 26),
    (21, 22),
    (31, 35),
    (36, 45),
    (37, 44),
    (41, 46),
    (48, 54),
    (59, 55),
    (60, 64),
)


@pytest.fixture(scope="module")
def data_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads") / "data"
    counts = synthetic_heads.write_data_set(folder, **SMALL, workers=1)
    assert counts == {"300W_LP": 6, "AFLW2000": 2, "BIWI": 3}
    return folder


@pytest.fixture(scope="module")
def person():
    return head_renderer.random_identity(np.random.default_rng(3))


@pytest.fixture(scope="module")
def empty_room():
    light = (0.0, -0.6, 0.8)
    background = np.zeros((300, 300, 3), np.uint8)
    return head_renderer.Scene(background, light, 0.6, 0.5, gain=(1.0, 1.0, 1.0), blur=0.0, noise=0.0, grey=False)


def rows_of(folder, name):
    """The rows of a list: path → the rest as numbers."""
    rows = (line.split("\t", 1) for line in (folder / "lists" / name).read_text().splitlines())
    return {path: [float(value) for value in rest.split()] for path, rest in rows}


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def turned(person, scene, degrees, **options):
    return head_renderer.render_head(person, np.radians(degrees), size=300, scene=scene, **options)


@pytest.mark.parametrize("yaw", [-70, 70])
@pytest.mark.parametrize("pitch", [-40, 40])
@pytest.mark.parametrize("roll", [-50, 50])
def test_drawn_nose_points_where_the_angles_say(person, empty_room, yaw, pitch, roll):
    _, facts = turned(person, empty_room, (yaw, pitch, roll))
    drawn = facts["nose_tip"] - facts["nose_base"]
    wanted = rotation_matrix(np.radians((yaw, pitch, roll)))[:2, 2]
    off = np.degrees(np.arctan2(drawn[1], drawn[0]) - np.arctan2(wanted[1], wanted[0]))
    assert abs((off + 180) % 360 - 180) < 2
    assert np.sign(drawn[0]) == -np.sign(yaw) and np.sign(drawn[1]) == -np.sign(pitch)


def test_yaw_above_zero_turns_the_drawn_face_to_the_left(person, empty_room):
    for yaw in (-90, 90):
        picture, facts = turned(person, empty_room, (yaw, 0, 0))
        columns = np.flatnonzero(facts["mask"].any(axis=0))
        tip = facts["landmarks"][0, 30]  # at ±90° nothing reaches further than the nose
        assert abs(tip - (columns[0] if yaw > 0 else columns[-1])) <= 2
        assert picture[facts["mask"]].mean() > 20


def test_pitch_above_zero_lifts_the_drawn_face(person, empty_room):
    up, level, down = (turned(person, empty_room, (0, pitch, 0))[1]["landmarks"][1, 30] for pitch in (40, 0, -40))
    assert up < level < down


def test_roll_above_zero_tilts_counter_clockwise(person, empty_room):
    _, facts = turned(person, empty_room, (0, 0, 30))
    chin_to_brow = facts["landmarks"][:, 27] - facts["landmarks"][:, 8]
    assert np.degrees(np.arctan2(-chin_to_brow[0], -chin_to_brow[1])) == pytest.approx(30, abs=1)


def test_the_picture_itself_turns_with_the_labels(person, empty_room):
    """Independent of the facts: an upright head rotated in the plane by hand is the head drawn with that roll."""
    upright, _ = turned(person, empty_room, (0, 0, 0))
    rolled, facts = turned(person, empty_room, (0, 0, 25))
    by_hand = cv2.warpAffine(upright, cv2.getRotationMatrix2D((149.5, 149.5), 25, 1), (300, 300))
    other_way = cv2.warpAffine(upright, cv2.getRotationMatrix2D((149.5, 149.5), -25, 1), (300, 300))
    row, column, size = facts["box"]
    face = np.s_[row : row + size, column : column + size]
    error, wrong = (np.abs(rolled[face].astype(float) - other[face]).mean() for other in (by_hand, other_way))
    assert error < wrong / 2


def test_mask_covers_the_head_and_only_the_head(person, empty_room):
    picture, facts = turned(person, empty_room, (20, 10, 0), scale=6)
    drawn = picture.max(axis=2) > 0
    assert drawn[facts["mask"]].mean() > 0.99
    assert 0.05 < facts["mask"].mean() < 0.5
    assert facts["mask"][tuple(np.round(facts["nose_base"][::-1]).astype(int))]
    assert not facts["mask"][-1].any()  # the shoulders


def test_box_lies_on_the_face_as_in_the_published_list(person, empty_room):
    boxes = np.array([turned(person, empty_room, (0, 0, 0), rng=np.random.default_rng(n))[1]["box"] for n in range(20)])
    landmarks = turned(person, empty_room, (0, 0, 0))[1]["landmarks"]
    row, column, size = boxes.mean(axis=0)
    width, height = np.ptp(landmarks, axis=1)
    assert size / width == pytest.approx(1.025, abs=0.1) and size / height == pytest.approx(1.069, abs=0.1)
    middle = (landmarks.min(axis=1) + landmarks.max(axis=1)) / 2
    assert (column + size / 2 - middle[0]) / size == pytest.approx(-0.006, abs=0.03)
    assert (row + size / 2 - middle[1]) / size == pytest.approx(-0.059, abs=0.03)
    assert boxes.std(axis=0).min() > 0


@pytest.mark.parametrize("style", head_renderer.HAIR_STYLES)
def test_every_hair_style_draws(style, empty_room):
    identity = head_renderer.Identity(style=style, glasses=True, beard=0.5)
    _, facts = turned(identity, empty_room, (150, 0, 0))
    assert facts["mask"].mean() > 0.1


@pytest.mark.parametrize(("part", "boxes", "angles"), [(part, *names) for part, names in synthetic_heads.LISTS.items()])
def test_lists_name_the_same_pictures_and_all_of_them(data_set, part, boxes, angles):
    named = rows_of(data_set, boxes)
    assert list(named) == list(rows_of(data_set, angles))
    assert {data_set / path for path in named} == {
        p for p in (data_set / part).rglob("*") if p.suffix in (".jpg", ".png")
    }
    for row, column, size, again in named.values():
        assert size == again > 20
        assert 0 < row + size / 2 < 480 and 0 < column + size / 2 < 640
    for line in (data_set / "lists" / boxes).read_text().splitlines():
        assert line.startswith(f"./{part}/") and line.endswith(" ")


@pytest.mark.parametrize(("part", "points"), [("300W_LP", 68), ("AFLW2000", 21)])
def test_mat_files_agree_with_lists_and_rotation(data_set, part, points):
    for path, (roll, pitch, yaw, *classes) in rows_of(data_set, synthetic_heads.LISTS[part][1]).items():
        mat = loadmat((data_set / path).with_suffix(".mat"))
        assert mat["Pose_Para"].shape == (1, 7) and mat["Pose_Para"].dtype == np.float32
        np.testing.assert_allclose(mat["Pose_Para"][0, :3], (pitch, yaw, -roll), atol=1e-6)
        assert classes == [np.floor(np.degrees(angle)) + 90 for angle in (roll, pitch, yaw)]
        assert mat["pt2d"].shape == (2, points) and mat["pt3d_68"].shape == (3, 68)
        derotated = rotation_matrix((yaw, pitch, roll)).T @ mat["pt3d_68"]
        left, right = (derotated[:, list(side)] for side in zip(*MIRROR_PAIRS, strict=True))
        size = np.ptp(derotated[0])
        assert np.abs((right - left)[1:]).max() < 0.03 * size  # a face seen from the front is symmetric
        assert (left[0] < right[0]).all()
        assert derotated[2, 30] == derotated[2].max() and derotated[1, 8] > derotated[1, 27] + 0.5 * size
        assert cv2.imread(str(data_set / path)).shape == (450, 450, 3)


def test_pose_files_agree_with_the_list(data_set):
    for path, (roll, pitch, yaw) in rows_of(data_set, "biwi_angle.txt").items():
        lines = (data_set / path.replace("_rgb.png", "_pose.txt")).read_text().splitlines()
        assert len(lines) == 5 and lines[3] == ""
        stored = np.array([[float(value) for value in line.split()] for line in lines[:3]])
        m = stored.T  # the formula in common use for BIWI, whose roll has the sign of the `.mat` files
        yaw_pitch = (-np.arctan2(-m[2, 0], np.hypot(m[2, 1], m[2, 2])), np.arctan2(m[2, 1], m[2, 2]))
        mat_roll = -np.arctan2(m[1, 0], m[0, 0])
        np.testing.assert_allclose(np.degrees((*yaw_pitch, -mat_roll)), (yaw, pitch, roll), atol=1e-5)
        x, y, distance = (float(value) for value in lines[4].split())
        row, column, size, _ = rows_of(data_set, "biwi_rect.txt")[path]
        seen = np.array([x, y]) * synthetic_heads.FOCAL_LENGTH / distance + (320, 240)
        assert np.abs(seen - (column + size / 2, row + size / 2)).max() < size
        assert cv2.imread(str(data_set / path)).shape == (480, 640, 3)
    assert (data_set / "BIWI" / "hpdb" / "01" / "rgb.cal").exists()


def test_flipped_copies_are_mirror_images_with_mirrored_labels(data_set):
    boxes, angles = (rows_of(data_set, name) for name in synthetic_heads.LISTS["300W_LP"])
    originals = [path for path in angles if "_Flip" not in path]
    assert len(originals) == 3
    for path in originals:
        copy = path.replace("/AFW/", "/AFW_Flip/")
        (roll, pitch, yaw), flipped = angles[path][:3], angles[copy][:3]
        assert flipped == [-roll, pitch, -yaw]
        row, column, size, _ = boxes[path]
        assert boxes[copy] == [row, 450 - column - size, size, size]
        picture, mirrored = (cv2.imread(str(data_set / name)).astype(float) for name in (path, copy))
        assert np.abs(picture[:, ::-1] - mirrored).mean() < 4 < np.abs(picture - mirrored).mean()
        one, other = (loadmat((data_set / name).with_suffix(".mat"))["pt2d"] for name in (path, copy))
        for left, right in MIRROR_PAIRS:
            np.testing.assert_allclose(other[:, left], (449 - one[0, right], one[1, right]), atol=1e-9)


def test_same_seed_writes_the_same_bytes_with_one_worker_and_with_two(data_set, tmp_path):
    synthetic_heads.write_data_set(tmp_path / "again", **SMALL, workers=2)
    assert digests(tmp_path / "again") == digests(data_set)


def test_another_seed_draws_other_pictures(data_set, tmp_path):
    synthetic_heads.write_data_set(tmp_path / "other", train=0, test=1, videos=0, seed=6, workers=1)
    name = "AFLW2000/image00002.jpg"
    assert (tmp_path / "other" / name).read_bytes() != (data_set / name).read_bytes()


def test_people_of_the_test_part_are_not_in_training(monkeypatch, tmp_path):
    people = []

    def note(identity, angles, **_):
        people.append(identity)
        raise InterruptedError

    monkeypatch.setattr(synthetic_heads, "render_head", note)
    for part in synthetic_heads.PARTS:
        for number in range(40):
            with pytest.raises(InterruptedError):
                synthetic_heads._draw_job((tmp_path, 0, part, number, 1))
    assert len(people) == len(set(people)) == 120


def test_whole_set_is_kept_and_anything_else_redrawn(data_set, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(synthetic_heads, "write_data_set", lambda *_, **options: drawn.append(options))
    assert synthetic_heads.ensure_data_set(data_set, **SMALL) == {"300W_LP": 6, "AFLW2000": 2, "BIWI": 3}
    assert not drawn
    synthetic_heads.ensure_data_set(data_set, **{**SMALL, "seed": 1})
    manifest = json.loads((data_set / synthetic_heads.MANIFEST).read_text())
    (tmp_path / synthetic_heads.MANIFEST).write_text(json.dumps({**manifest, "complete": False}))
    synthetic_heads.ensure_data_set(tmp_path, **SMALL)
    assert len(drawn) == 2


def test_interrupted_drawing_leaves_no_complete_manifest(tmp_path, monkeypatch):
    def stop(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic_heads, "_draw_job", stop)
    with pytest.raises(KeyboardInterrupt):
        synthetic_heads.write_data_set(tmp_path, **SMALL, workers=1)
    monkeypatch.undo()
    assert synthetic_heads.ensure_data_set(tmp_path, train=0, test=1, videos=0, workers=1)["AFLW2000"] == 1
    assert (tmp_path / "AFLW2000" / "image00002.mat").exists()


def test_folder_with_other_data_is_left_alone(tmp_path):
    stranger = tmp_path / "AFLW2000" / "image00002.jpg"
    stranger.parent.mkdir()
    stranger.write_bytes(b"someone else's")
    with pytest.raises(InputError, match="Give a new folder"):
        synthetic_heads.write_data_set(tmp_path, **SMALL)
    assert stranger.read_bytes() == b"someone else's"


@pytest.mark.parametrize("wrong", [{"train": -1}, {"test": 1.5}, {"train": 0, "test": 0, "frames": 0}, {"workers": 0}])
def test_numbers_that_make_no_sense_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match="whole numbers from 0"):
        synthetic_heads.write_data_set(tmp_path / "data", **{**SMALL, **wrong})
    assert not (tmp_path / "data").exists()


def test_scene_of_another_size_is_refused(person, empty_room):
    with pytest.raises(InputError, match="size of the picture"):
        head_renderer.render_head(person, (0, 0, 0), size=200, scene=empty_room)


def test_command_draws_a_set_and_a_contact_sheet(tmp_path):
    script = Path(synthetic_heads.__file__)
    command = [sys.executable, script, "--out", tmp_path / "data", "--train", "1", "--test", "1", "--videos", "0"]
    done = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"300W_LP": 1, "AFLW2000": 1, "BIWI": 0}
    assert "2/2" in done.stderr
    refused = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "--out" in refused.stderr


def test_contact_sheet_shows_every_pose():
    sheet = synthetic_heads.contact_sheet(cell=60)
    assert sheet.shape[1] == 7 * 60 and sheet.shape[0] > 6 * 60
