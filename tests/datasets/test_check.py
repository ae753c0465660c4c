"""What is in a data folder: at a start, decoded on request, in the report; and fetching the published lists into it."""

import http.client
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.images import write_image
from helpers.lists import read
from scipy.io import savemat

from rafa.datasets import check
from rafa.datasets.check import check_data_folder, check_images, fetch_lists, keep_present, main
from rafa.datasets.rows import blob_id
from rafa.datasets.sets import DATASETS, PAPER_DATASETS
from rafa.script import InputError

SCRIPT = Path(__file__).parents[2] / "data_loaders.py"
LAYOUT = {  # one image of each dataset
    ("300wcrop.txt", "300w_euler_cls.txt"): "300W_LP/AFW/AFW_1_0.jpg",
    ("Aflw2000crop.txt", "Aflw2000_euler_cls.txt"): "AFLW2000/image00002.jpg",
    ("biwi_rect.txt", "biwi_angle.txt"): "BIWI/hpdb/01/frame_00003_rgb.png",
}


@pytest.fixture
def three_sets(tmp_path, publish):
    """A data folder with one image of each dataset, and a second row without a box; its lists count as published."""
    (tmp_path / "lists").mkdir()
    for (crop_list, angle_list), path in LAYOUT.items():
        absent = path.replace(".", "-9.")
        (tmp_path / "lists" / crop_list).write_text(f"./{path}\t1 2 3 3 \n./{absent}\n")
        (tmp_path / "lists" / angle_list).write_text(f"./{path}\t0.1\t0.2\t0.3\n./{absent}\t0\t0\t0\n")
        write_image(tmp_path / path)
    for name in PAPER_DATASETS:
        publish(tmp_path / "lists", name)
    return tmp_path


# --- At a start ---


def test_absent_images_are_an_error_unless_they_may_be_skipped_and_none_is_opened(folder):
    paths = sorted((folder / "AFLW2000").iterdir())
    for path in paths:
        path.write_bytes(b"")
    assert keep_present(read(folder)).missing == 0
    paths[3].unlink()
    with pytest.raises(InputError, match=r"1 of 7 listed images .*AFLW2000/image00003.png.*--allow-missing"):
        keep_present(read(folder))
    kept = keep_present(read(folder), allow_missing=True)
    assert (len(kept.records), kept.missing, len(kept.usable)) == (6, 1, 7)
    assert "AFLW2000/image00003.png" not in kept.records["path"]
    for path in kept.records["path"]:
        (folder / path).unlink()
    with pytest.raises(InputError, match="7 of 7 listed images") as raised:
        keep_present(read(folder), allow_missing=True)
    assert "--allow-missing" not in str(raised.value)


# --- Decoding every image ---


def run(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_every_image_of_a_folder_without_lists_is_decoded_and_all_unreadable_ones_are_named(tmp_path):
    paths = [write_image(tmp_path / name) for name in ("a.jpg", "below/b.JPG", "c.png")]
    done = run("--data-dir", tmp_path, "--check-images")
    assert (done.returncode, done.stdout) == (0, "3 images decoded, 0 of them cannot be used\n")
    for path in paths[1:]:
        path.write_bytes(b"text")
    done = run("--data-dir", tmp_path, "--check-images")
    assert done.returncode == 1
    first, second, last = done.stdout.splitlines()
    assert first.startswith(f"{paths[1]}: not an image") and second.startswith(f"{paths[2]}: not an image")
    assert last == "3 images decoded, 2 of them cannot be used"


def test_the_listed_images_that_are_there_are_decoded_and_all_that_cannot_be_used_are_named(three_sets, capsys):
    first, second, third = (three_sets / path for path in LAYOUT.values())
    write_image(three_sets / "AFLW2000/unlisted.jpg").write_bytes(b"text")
    assert check_images(three_sets)
    first.write_bytes(b"text")
    write_image(second, np.zeros((1, 2, 3), np.uint8))
    third.unlink()
    capsys.readouterr()
    assert not check_images(three_sets)
    *counts, one, other, total = capsys.readouterr().out.splitlines()
    assert counts == [
        f"{title} listed images are there" for title in ("300W-LP: 1 of 1", "AFLW2000: 1 of 1", "BIWI: 0 of 1")
    ]
    assert f"300wcrop.txt, line 1, {first.relative_to(three_sets)}: {first}: not an image" in one
    assert f"Aflw2000crop.txt, line 1, {second.relative_to(three_sets)}: box outside its image" in other
    assert total == "2 images decoded, 2 of them cannot be used"


def test_a_folder_without_images_cannot_be_checked(tmp_path):
    with pytest.raises(InputError, match="no images in it"):
        check_images(tmp_path)


# --- The report ---


def test_a_complete_folder_is_counted(three_sets, capsys):
    assert check_data_folder(three_sets)
    blocks = capsys.readouterr().out.split("AFLW2000\n")
    assert blocks[0].splitlines() == [
        "300W-LP",
        "  lists: 2 rows, 1 usable",
        "  rejected: 1 no box (300W_LP/AFW/AFW_1_0-9.jpg)",
        "  images: 1 of 1 found",
    ]
    assert "note: 2 rows, 1 usable; the published lists have 1,955 rows, 1,947 usable" in blocks[1]


@pytest.mark.parametrize(("name", "path"), [*zip(PAPER_DATASETS, LAYOUT.values(), strict=True)])
def test_an_absent_image_makes_a_folder_incomplete(name, path, three_sets, capsys):
    (three_sets / path).unlink()
    assert not check_data_folder(three_sets)
    text = capsys.readouterr().out
    assert f"images: 0 of 1 found\n  missing: 1 in {Path(path).parent.as_posix()}; the first is {path};" in text
    assert text.endswith(f"not ready for the paper's runs: {DATASETS[name].title}\n")
    assert text.count("get them from: ") == 1 and text.count("1 of 1 found") == 2


@pytest.mark.parametrize("names", LAYOUT)
def test_an_absent_or_malformed_list_does_not_hide_the_others(names, three_sets, capsys):
    (three_sets / "lists" / names[0]).unlink()
    (three_sets / "lists" / "300w_euler_cls.txt").write_text("a.jpg\t1")
    assert not check_data_folder(three_sets)
    text = capsys.readouterr().out
    assert f"{names[0]} is neither in " in text and "--fetch-lists" in text
    assert "300wcrop.txt" in names[0] or "300w_euler_cls.txt, line 1: malformed angles" in text
    assert text.count("1 of 1 found") == (2 if names[0] == "300wcrop.txt" else 1)


def test_the_command_says_of_an_empty_folder_what_is_missing_and_where_to_get_it(tmp_path):
    done = run("--data-dir", tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    lists = [f"{name} is neither in" for name in ("300wcrop.txt", "Aflw2000crop.txt", "biwi_rect.txt")]
    for text in (*lists, "--fetch-lists", "300W-LP.zip", "AFLW2000-3D.zip"):
        assert text in done.stdout


def test_the_command_ends_with_status_0_for_a_complete_folder_with_the_published_lists_alone(
    three_sets, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["data_loaders.py", "--data-dir", str(three_sets)])
    assert main("") == 0
    assert "not ready" not in capsys.readouterr().out
    other = three_sets / "lists/biwi_rect.txt"
    other.write_bytes(other.read_bytes() + b"\n")
    assert main("") == 1
    text = capsys.readouterr().out
    assert f"move {other} away, then add --fetch-lists" in text
    assert text.splitlines()[-1] == "not ready for the paper's runs: BIWI"


# --- Annotations ---


def annotate(folder, name, roll):
    """A `.mat` file beside an image, with the angles of its row but for the roll, in the signs of `.mat` files."""
    savemat(folder / name, {"Pose_Para": [[0.2, 0.3, roll, 0, 0, 0, 1]]})


def test_angles_are_compared_with_the_mat_files_that_are_there(three_sets, capsys):
    annotate(three_sets, "AFLW2000/image00002.mat", -0.1 * np.pi / 3.14)
    annotate(three_sets, "300W_LP/AFW/AFW_1_0.mat", -0.1 - np.radians(0.09))
    assert check_data_folder(three_sets)
    assert capsys.readouterr().out.count("annotations: 1 found, 0 that differ") == 2
    annotate(three_sets, "AFLW2000/image00002.mat", 0.1)
    annotate(three_sets, "300W_LP/AFW/AFW_1_0.mat", -0.1 - np.radians(0.11))
    assert not check_data_folder(three_sets)
    text = capsys.readouterr().out
    assert text.count("annotations: 1 found, 1 that differ") == 2
    assert "17.19° 11.46° 5.73° in the list, 17.19° 11.46° -5.73° in image00002.mat" in text
    assert text.splitlines()[-1] == "not ready for the paper's runs: 300W-LP, AFLW2000"


def test_pose_files_of_biwi_are_compared_in_the_order_and_signs_of_its_list(three_sets, capsys):
    # Frame 00003 of video 12: angles of the published list, rotation of the data card of `biwi_kinect_head_pose`.
    (three_sets / "lists/biwi_angle.txt").write_text("BIWI/hpdb/12/frame_00003_rgb.png\t6.39439\t-0.40492\t9.32747\n")
    (three_sets / "lists/biwi_rect.txt").write_text("BIWI/hpdb/12/frame_00003_rgb.png\t1 2 3 3\n")
    pose = write_image(three_sets / "BIWI/hpdb/12/frame_00003_rgb.png").with_name("frame_00003_pose.txt")
    pose.write_text(
        "0.980639 0.109899 0.162077 \n-0.11023 0.993882 -0.00697376 \n-0.161851 -0.011027 0.986754 \n\n1 2 3\n"
    )
    check_data_folder(three_sets)
    assert "annotations: 1 found, 0 that differ" in capsys.readouterr().out
    pose.write_text("1 0 0 \n0 1 0 \n0 0 1 \n\n1 2 3\n")
    check_data_folder(three_sets)
    text = capsys.readouterr().out
    assert "9.33° -0.40° 6.39° in the list" in text and "1 found, 1 that differ" in text


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("AFLW2000/image00002.mat", b"text"),
        ("AFLW2000/image00002.mat", b""),
        ("BIWI/hpdb/01/frame_00003_pose.txt", b"1 0 0\n0 2 0\n0 0 1\n"),
        ("BIWI/hpdb/01/frame_00003_pose.txt", b"1 0 0\n0 1\n"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_named(file, content, three_sets, capsys):
    (three_sets / file).write_bytes(content)
    assert not check_data_folder(three_sets)
    assert f"{three_sets / file} is not an annotation" in capsys.readouterr().out


# --- Fetching ---


def test_the_command_ends_with_status_2_and_one_line_where_the_lists_cannot_be_fetched(tmp_path):
    for url in ("http://127.0.0.1:9/", "no address"):
        done = run("--data-dir", tmp_path, "--fetch-lists", url)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert f"error: {url.rstrip('/')}/300wcrop.txt could not be downloaded" in done.stderr
        assert not list(tmp_path.iterdir())


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A folder with two "published" lists, and its address."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    contents = {"300wcrop.txt": b"first list\n" * 1000, "biwi_rect.txt": b"second list\r\n" * 10}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr(check, "PUBLISHED_BLOBS", {name: blob_id(text) for name, text in contents.items()})
    return folder, folder.as_uri()


@pytest.mark.parametrize("end", ["", "/"])
def test_lists_are_fetched_and_verified_once(end, mirror, tmp_path, capsys):
    folder, url = mirror
    fetch_lists(tmp_path / "data", url + end)
    fetched = {path.name: path.read_bytes() for path in (tmp_path / "data/lists").iterdir()}
    assert fetched == {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "300wcrop.txt: fetched and verified, 11,000 bytes" in capsys.readouterr().out
    fetch_lists(tmp_path / "data", "http://127.0.0.1:9")
    assert capsys.readouterr().out.count("already there") == 2


def test_what_is_not_the_published_list_is_not_kept(mirror, tmp_path, monkeypatch):
    folder, url = mirror
    (folder / "biwi_rect.txt").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"biwi_rect.txt is not the published list: git blob .* nothing was written"):
        fetch_lists(tmp_path, url)
    assert [path.name for path in (tmp_path / "lists").iterdir()] == ["300wcrop.txt"]

    def broken_off(*_, **__):
        raise http.client.IncompleteRead(b"first")

    monkeypatch.setattr("urllib.request.urlopen", broken_off)
    with pytest.raises(InputError, match=r"300wcrop.txt could not be downloaded.*try again"):
        fetch_lists(tmp_path / "new", url)
    assert not (tmp_path / "new").exists()


def test_another_list_in_the_place_of_a_published_one_is_kept(mirror, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/300wcrop.txt").write_bytes(b"my own")
    with pytest.raises(InputError, match="exists and is not the published list; move it away"):
        fetch_lists(tmp_path, mirror[1])
    assert (tmp_path / "lists/300wcrop.txt").read_bytes() == b"my own"
