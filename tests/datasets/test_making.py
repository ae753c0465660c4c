"""Lists of your own, made from the annotations beside the images."""

import sys

import numpy as np
import pytest
from helpers.images import write_image
from scipy.io import savemat

from rafa.datasets.check import main
from rafa.datasets.lists import load_dataset
from rafa.datasets.making import make_lists
from rafa.script import InputError

FACE = np.stack([np.linspace(100, 140, 51), np.linspace(200, 290, 51)])  # x, y; the root of width · height is 60
BOX = (206, 79, 83)  # centre 120, 245 + 0.033 · 60; side 1.38 · 60
JAW = np.full((2, 17), 999)


def annotate(image, pose, **landmarks):
    """An image, and a `.mat` file beside it, with pitch, yaw, roll in the signs of such files."""
    write_image(image)
    savemat(image.with_suffix(".mat"), {"Pose_Para": [[*pose, 0, 0, 0, 1]], **landmarks})


@pytest.fixture
def data(tmp_path):
    """Three images of AFLW2000, one with an angle of 100°, one without an annotation."""
    points = np.vstack([np.hstack([JAW, FACE]), np.full((1, 68), 7)])
    annotate(tmp_path / "AFLW2000/image00002.jpg", (0.2, 0.3, 0.1), pt3d_68=points, pt2d=np.zeros((2, 21)))
    annotate(tmp_path / "AFLW2000/image00004.jpg", (0, np.radians(100), 0), pt3d_68=points)
    write_image(tmp_path / "AFLW2000/image00006.jpg")
    return tmp_path


def boxes_of(listed):
    return [tuple(record)[1:4] for record in listed.records]


def test_angles_and_boxes_of_aflw2000_come_from_pose_and_landmarks_without_the_jaw(data, capsys):
    make_lists("aflw2000", data)
    text = capsys.readouterr().out
    assert "1 rows in" in text and "1 with an angle beyond 99°" in text and "1 without an annotation" in text
    listed = load_dataset("aflw2000", data)
    assert listed.records["path"].tolist() == ["AFLW2000/image00002.jpg"] and boxes_of(listed) == [BOX]
    np.testing.assert_allclose(listed.records["angles"], [[0.3, 0.2, -0.1]], atol=1e-11)  # yaw, pitch, roll
    assert not listed.published and "Aflw2000crop.txt is not the published list" in listed.notes


@pytest.mark.parametrize(
    ("pose", "points", "reason"),
    [((np.nan, 0, 0), FACE, "angle out of range"), ((0, 0, 0), np.full((2, 51), 9.0), "box not square")],
)
def test_an_annotation_that_the_lists_could_not_hold_is_counted(data, capsys, pose, points, reason):
    annotate(data / "AFLW2000/image00008.jpg", pose, pt3d_68=np.vstack([np.hstack([JAW, points]), np.full((1, 68), 7)]))
    make_lists("aflw2000", data)
    assert f"1 whose annotation gives a {reason}" in capsys.readouterr().out
    assert len(load_dataset("aflw2000", data).records) == 1


def test_300w_lp_has_landmarks_in_the_plane(tmp_path):
    for folder in ("AFW", "AFW_Flip"):
        annotate(tmp_path / f"300W_LP/{folder}/a.jpg", (0, np.radians(-99), 0), pt2d=np.hstack([JAW, FACE]))
    make_lists("300w-lp", tmp_path)
    listed = load_dataset("300w-lp", tmp_path)
    assert listed.records["path"].tolist() == ["300W_LP/AFW/a.jpg", "300W_LP/AFW_Flip/a.jpg"]
    assert boxes_of(listed) == [BOX, BOX]
    np.testing.assert_allclose(np.degrees(listed.records["angles"][0]), [-99, 0, 0], atol=1e-9)


def test_the_head_of_biwi_is_seen_by_the_colour_camera(tmp_path):
    # Frame 00003 of video 12, by the data card of `biwi_kinect_head_pose`; the published box is 187 288 95 95.
    frame = write_image(tmp_path / "BIWI/hpdb/12/frame_00003_rgb.png")
    frame.with_name("frame_00003_pose.txt").write_text(
        "0.980639 0.109899 0.162077 \n-0.11023 0.993882 -0.00697376 \n-0.161851 -0.011027 0.986754 \n\n"
        "43.4019 -30.7038 906.864 \n"
    )
    frame.with_name("rgb.cal").write_text(
        "517.679 0 320 \n0 517.679 240.5 \n0 0 1 \n\n0 0 0 0 \n\n0.999947 0.00432361 0.00929419 \n"
        "-0.00446314 0.999877 0.0150443 \n-0.009228 -0.015085 0.999844 \n\n-24.0198 5.8896 -13.2308 \n\n640 480 \n"
    )
    make_lists("biwi", tmp_path)
    listed = load_dataset("biwi", tmp_path)
    assert boxes_of(listed) == [(186, 289, 95)] and listed.records["video"] == ["12"]
    np.testing.assert_allclose(np.degrees(listed.records["angles"]), [[9.32747, -0.40492, 6.39439]], atol=1e-4)


@pytest.mark.parametrize("place", ["Aflw2000crop.txt", "lists/Aflw2000_euler_cls.txt"])
def test_a_list_that_is_there_is_kept(place, data):
    (data / "lists").mkdir()
    (data / place).write_text("published")
    with pytest.raises(InputError, match=f"{place} is there already; move it away"):
        make_lists("aflw2000", data)
    assert [path.read_text() for path in data.rglob("*.txt")] == ["published"]


POSE, HIDDEN = {"Pose_Para": np.zeros((1, 7))}, {"pt2d": np.zeros((2, 21))}


@pytest.mark.parametrize("content", [None, b"text", POSE, POSE | HIDDEN, {"pt2d": np.zeros((2, 68))}])
def test_without_a_complete_annotation_nothing_is_written(content, data):
    for path in (data / "AFLW2000").glob("*.mat"):
        path.unlink()
    if content is not None:
        file = data / "AFLW2000/image00006.mat"
        savemat(file, content) if isinstance(content, dict) else file.write_bytes(content)
    expected = "no image with an annotation" if content is None else "image00006.mat is not an annotation"
    with pytest.raises(InputError, match=expected):
        make_lists("aflw2000", data)
    assert not (data / "lists").exists()


def test_the_command_makes_the_lists_of_one_dataset(data, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["data_loaders.py", "--data-dir", str(data), "--make-lists", "aflw2000"])
    assert main("") == 0
    assert sorted(path.name for path in (data / "lists").iterdir()) == ["Aflw2000_euler_cls.txt", "Aflw2000crop.txt"]
