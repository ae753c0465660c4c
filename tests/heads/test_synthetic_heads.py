"""The synthetic dataset: lists and images agree, the same seed writes the same bytes, other data is left alone."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import synthetic_heads
from rafa.datasets.lists import load_dataset
from rafa.heads import dataset as heads
from rafa.pose import rotation_matrix
from rafa.script import InputError

SMALL = {"train": 11, "test": 3, "seed": 5}  # two people to train on, two to test on
LISTS = [
    ("300W_LP", "300wcrop.txt", "300w_euler_cls.txt"),
    ("AFLW2000", "Aflw2000crop.txt", "Aflw2000_euler_cls.txt"),
]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads") / "data"
    heads.write_dataset(folder, **SMALL, workers=1)
    return folder


def rows_of(folder, name):
    """The rows of a list: path → the rest as numbers."""
    rows = (line.split("\t", 1) for line in (folder / "lists" / name).read_text().splitlines())
    return {path: [float(value) for value in rest.split()] for path, rest in rows}


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_files_are_the_images_their_lists_and_the_manifest(dataset):
    counts = {folder.name: len(list(folder.iterdir())) for folder in (dataset / "300W_LP").iterdir()}
    assert counts == {"AFW": 4, "AFW_Flip": 4, "HELEN": 2, "HELEN_Flip": 1}
    assert [path.name for path in sorted((dataset / "AFLW2000").iterdir())] == [
        "image00002.jpg",
        "image00003.jpg",
        "image00004.jpg",
    ]
    assert len(digests(dataset)) == 11 + 3 + 4 + 2


@pytest.mark.parametrize(("part", "boxes", "angles"), LISTS)
def test_lists_name_the_same_images_and_all_of_them(dataset, part, boxes, angles):
    named = rows_of(dataset, boxes)
    assert list(named) == list(rows_of(dataset, angles))
    assert {dataset / path for path in named} == set((dataset / part).rglob("*.jpg"))
    for row, column, size, again in named.values():
        assert size == again > 20
        assert 0 < row + size / 2 < 450 and 0 < column + size / 2 < 450
    for line in (dataset / "lists" / boxes).read_text().splitlines():
        assert line.startswith(f"./{part}/") and line.endswith(" ")
    for *radians, roll, pitch, yaw in rows_of(dataset, angles).values():
        assert [roll, pitch, yaw] == [np.floor(np.degrees(angle)) + 90 for angle in radians]


def test_the_list_reader_gives_back_the_angles_that_were_drawn(monkeypatch, tmp_path):
    drawn, render = [], heads.render_head

    def note(identity, angles, **options):
        drawn.append(angles)
        return render(identity, angles, **options)

    monkeypatch.setattr(heads, "render_head", note)
    heads.write_dataset(tmp_path / "data", train=0, test=3, seed=1, workers=1)
    listed = load_dataset("synthetic", tmp_path / "data")
    np.testing.assert_allclose(listed.records["angles"], drawn, atol=1e-6)


def test_flipped_copies_are_mirror_images_with_mirrored_labels(dataset):
    _, box_list, angle_list = LISTS[0]
    boxes, angles = rows_of(dataset, box_list), rows_of(dataset, angle_list)
    originals = [path for path in angles if "_Flip" not in path]
    assert len(originals) == 6
    for path in originals[:-1]:  # of an odd number of images, the last has no copy
        copy = path.replace("/AFW/", "/AFW_Flip/").replace("/HELEN/", "/HELEN_Flip/")
        (roll, pitch, yaw), flipped = angles[path][:3], angles[copy][:3]
        assert flipped == [-roll, pitch, -yaw]
        row, column, size, _ = boxes[path]
        assert boxes[copy] == [row, 450 - column - size, size, size]
        image, mirrored = (cv2.imread(str(dataset / name)).astype(float) for name in (path, copy))
        same, other = (np.abs(view - mirrored).mean() for view in (image[:, ::-1], image))
        assert same < 6 and same < other / 2  # two JPEGs of a noisy image, each of a quality of its own


def test_landmarks_lie_beside_the_lists_and_those_of_a_flipped_copy_are_mirrored(dataset):
    landmarks = np.load(dataset / "lists" / heads.LANDMARKS)
    paths = list(rows_of(dataset, LISTS[0][1]))
    assert landmarks.shape == (len(paths), 3, 68) and landmarks.dtype == np.float32
    flipped = next(number for number, path in enumerate(paths) if "_Flip" in path)
    seen, copy = landmarks[flipped - 1], landmarks[flipped]
    for one, other in ((36, 45), (0, 16), (48, 54), (30, 30), (21, 22), (33, 33), (60, 64), (8, 8), (41, 46)):
        np.testing.assert_allclose(copy[:, other], seen[:, one] * (-1, 1, 1) + (449, 0, 0), atol=1e-3)
    row, column, size, _ = rows_of(dataset, LISTS[0][1])[paths[flipped]]
    x, y = copy[:2].mean(axis=1)
    assert row < y < row + size and column < x < column + size


def test_images_are_written_with_red_as_red(monkeypatch, tmp_path):
    red = np.full((450, 450, 3), (255, 0, 0), np.uint8)
    facts = {"box": (100, 100, 200), "landmarks": np.zeros((3, 68))}
    monkeypatch.setattr(heads, "render_head", lambda *_, **__: (red, facts))
    heads.write_dataset(tmp_path / "data", train=0, test=1, workers=1)
    pixel = np.asarray(Image.open(tmp_path / "data/AFLW2000/image00002.jpg"))[200, 200]
    np.testing.assert_allclose(pixel, (255, 0, 0), atol=3)


# Of AFLW2000's published list, by |yaw| up to 30°, 60°, 75° and beyond: standard deviation of pitch and of roll in
# degrees, and their correlation when roll is counted in the sense of the yaw.
LIST_SPREADS = {(0, 30): (11.8, 14.6, -0.19), (30, 60): (18.4, 19.1, -0.76), (60, 75): (29.6, 30.2, -0.91)}
LIST_SPREADS[75, 99] = (33.6, 36.2, -0.97)


def test_pitch_and_roll_spread_and_agree_by_yaw_as_in_the_published_list():
    rng = np.random.default_rng(0)
    yaw, pitch, roll = np.degrees([heads.random_angles(rng) for _ in range(8000)]).T
    assert max(np.abs(angle).max() for angle in (yaw, pitch, roll)) < 99
    assert (np.abs(yaw) < 30).mean() == pytest.approx(0.52, abs=0.03)  # 0.67 in the list; more profiles are drawn
    for (low, high), (pitch_spread, roll_spread, correlation) in LIST_SPREADS.items():
        here = (np.abs(yaw) >= low) & (np.abs(yaw) < high)
        sideways = (roll * np.sign(yaw))[here]
        assert np.corrcoef(pitch[here], sideways)[0, 1] == pytest.approx(correlation, abs=0.18)
        if high < 99:  # beyond, the list has few near 90°, where one turn can be told as pitch or as roll
            spreads = pitch[here].std(), roll[here].std()
            assert spreads == pytest.approx((pitch_spread, roll_spread), rel=0.25)
            assert pitch[here].mean() == pytest.approx(-4.5, abs=2)


# Of the same list, by |yaw|: by how many degrees noses point down, and heads lean to the side they turn to.
LIST_MEANS = {(0, 20): (5.9, -0.5), (20, 40): (4.9, -0.8), (40, 60): (3.5, -0.9)}
LIST_MEANS |= {(60, 75): (1.2, -2.4), (75, 99): (0.4, -2.7)}


def test_noses_point_down_and_heads_lean_on_average_by_yaw_as_in_the_published_list():
    rng = np.random.default_rng(0)
    poses = np.array([heads.random_angles(rng) for _ in range(8000)])
    yaw, (right, _, nose) = np.degrees(poses[:, 0]), np.array([rotation_matrix(pose)[1] for pose in poses]).T
    down, leaning = np.degrees(np.arcsin(nose)), np.degrees(np.arcsin(right)) * np.sign(yaw)
    for (low, high), means in LIST_MEANS.items():
        here = (np.abs(yaw) >= low) & (np.abs(yaw) < high)
        assert (down[here].mean(), leaning[here].mean()) == pytest.approx(means, abs=1.5)


def test_one_head_in_eight_may_reach_over_the_border():
    rng = np.random.default_rng(0)
    framings = [heads.random_framing(rng) for _ in range(4000)]
    scales, centres = ([framing[name] for framing in framings] for name in ("scale", "centre"))
    assert 8.5 <= min(scales) < 8.6 and 15.9 < max(scales) <= 16
    off = np.abs(np.array(centres) - (225, 212))
    assert (off <= (102, 85)).all()
    # Of one in eight, 1 − (32/60)(24/50) = 74% are further off than the others ever are.
    assert (off > (54.4, 40.8)).any(axis=1).mean() == pytest.approx(0.744 / 8, abs=0.02)


def test_the_same_seed_writes_the_same_bytes_with_one_worker_and_with_two_and_another_seed_others(dataset, tmp_path):
    heads.write_dataset(tmp_path / "again", **SMALL, workers=2)
    assert digests(tmp_path / "again") == digests(dataset)
    heads.write_dataset(tmp_path / "other", train=0, test=1, seed=6, workers=1)
    name = "AFLW2000/image00002.jpg"
    assert digests(tmp_path / "other")[name] != digests(dataset)[name]


def test_the_first_images_do_not_depend_on_how_many_follow(dataset, tmp_path):
    heads.write_dataset(tmp_path / "fewer", train=8, test=1, seed=5, workers=1)
    fewer, all_of_them = digests(tmp_path / "fewer"), digests(dataset)
    images = [name for name in fewer if name.endswith(".jpg")]
    assert len(images) == 9 and all(fewer[name] == all_of_them[name] for name in images)


def test_people_of_the_test_part_are_not_in_training(monkeypatch):
    people = []

    def note(identity, angles, **_):
        people.append(identity)
        raise InterruptedError

    monkeypatch.setattr(heads, "render_head", note)
    for part in heads.PARTS:
        for number in range(40):
            with pytest.raises(InterruptedError):
                heads.draw_person(("nowhere", 0, part, number, 1))
    assert len(people) == len(set(people)) == 80


def test_a_whole_set_is_kept_and_one_begun_or_of_another_version_drawn_again(dataset, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(heads, "write_dataset", lambda folder, **options: drawn.append(options))
    heads.ensure_dataset(dataset, **SMALL)
    assert not drawn
    for change in ({"seed": 1}, {"train": 10}, {"test": 4}, {"per_person": 2}):
        ((name, value),) = change.items()
        with pytest.raises(InputError, match=f"holds other synthetic heads .* expected .*{name} {value}"):
            heads.ensure_dataset(dataset, **{**SMALL, **change})
    manifest = json.loads((dataset / heads.MANIFEST).read_text())
    for change in ({"complete": False}, {"version": heads.VERSION - 1}):
        (tmp_path / heads.MANIFEST).write_text(json.dumps({**manifest, **change}))
        heads.ensure_dataset(tmp_path, **SMALL)
    assert drawn == [{**SMALL, "per_person": heads.PER_PERSON}] * 2


def test_an_interrupted_set_is_not_whole_and_is_replaced(tmp_path, monkeypatch):
    def stop(job):
        raise KeyboardInterrupt

    monkeypatch.setattr(heads, "draw_person", stop)
    with pytest.raises(KeyboardInterrupt):
        heads.write_dataset(tmp_path, **SMALL, workers=1)
    assert not json.loads((tmp_path / heads.MANIFEST).read_text())["complete"]
    monkeypatch.undo()
    (tmp_path / "AFLW2000").mkdir()
    (tmp_path / "AFLW2000" / "image00009.jpg").touch()
    heads.write_dataset(tmp_path, train=0, test=1, workers=1)
    assert [path.name for path in (tmp_path / "AFLW2000").iterdir()] == ["image00002.jpg"]


@pytest.mark.parametrize("known", [True, False])
def test_a_folder_with_other_files_is_left_alone(tmp_path, known):
    if known:
        heads.write_dataset(tmp_path, train=0, test=1, workers=1)
    stranger = tmp_path / "AFLW2000" / "mine.jpg"
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_bytes(b"someone else's")
    before = digests(tmp_path)
    with pytest.raises(InputError, match="Give a new folder"):
        heads.write_dataset(tmp_path, **SMALL)
    assert digests(tmp_path) == before


def run(*arguments):
    command = [sys.executable, synthetic_heads.__file__, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_draws_a_set(tmp_path):
    done = run("--out", tmp_path / "data", "--train", "1", "--test", "1", "--seed", "7", "--workers", "1")
    assert done.returncode == 0
    manifest = json.loads((tmp_path / "data" / heads.MANIFEST).read_text())
    assert manifest["arguments"] == {"train": 1, "test": 1, "seed": 7, "per_person": 8} and manifest["complete"]
    assert done.stderr == ""
    assert len(digests(tmp_path / "data")) == 2 + 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--out DIR"),
        (["--contact-sheet", "heads.txt"], "error: heads.txt.*expected a name as of .png or .jpg"),
        (["--out", "data", "--train", "0", "--test", "0"], "at least one image"),
        (["--out", Path(synthetic_heads.__file__).parent], "error: .*Give a new folder"),
    ],
)
def test_bad_options_end_with_one_line_and_status_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.returncode == 2
    assert re.search(message, done.stderr) and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_contact_sheet_is_written_with_red_as_red(tmp_path, monkeypatch):
    sheet = np.full((8, 12, 3), (255, 0, 0), np.uint8)
    monkeypatch.setattr(synthetic_heads, "contact_sheet", lambda seed: sheet)
    monkeypatch.setattr(sys, "argv", ["synthetic_heads.py", "--contact-sheet", str(tmp_path / "heads.jpg")])
    synthetic_heads.main()
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / "heads.jpg")), sheet, atol=3)


def test_the_contact_sheet_shows_every_pose(monkeypatch):
    poses, render = [], synthetic_heads.render_head

    def note(identity, angles, **options):
        poses.append(tuple(np.degrees(angles).round().astype(int)))
        return render(identity, angles, **options)

    monkeypatch.setattr(synthetic_heads, "render_head", note)
    sheet = synthetic_heads.contact_sheet(cell=60)
    assert sheet.shape[1] > 7 * 60 and sheet.shape[0] > 6 * 60
    assert len(poses) == 42 and poses[0] == (90, 60, 0) and poses[34] == (-90, -60, 0) and poses[-1] == (0, 0, -60)
