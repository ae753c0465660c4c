"""What of the lists is in a data folder, checking it, and fetching the published lists into it."""

import http.server
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers.images import with_gap, write_image
from helpers.lists import read, rows_of, write_lists
from scipy.io import savemat

from data_loaders import scoring_batches
from rafa.datasets import check as data_folder
from rafa.datasets.check import check_data_folder, check_images, fetch_lists, keep_present, missing_frames
from rafa.datasets.lists import blob_id, load_dataset
from rafa.datasets.sets import PAPER_DATASETS
from rafa.script import InputError

SCRIPT = Path(__file__).parents[2] / "data_loaders.py"
LAYOUT = {  # one image of each dataset
    ("300wcrop.txt", "300w_euler_cls.txt"): "300W_LP/AFW/AFW_1_0.jpg",
    ("Aflw2000crop.txt", "Aflw2000_euler_cls.txt"): "AFLW2000/image00002.jpg",
    ("biwi_rect.txt", "biwi_angle.txt"): "BIWI/hpdb/01/frame_00003_rgb.png",
}


# --- Absent images ---


def test_absent_images_are_an_error_unless_they_may_be_skipped(folder):
    assert keep_present(read(folder)).missing == 0
    (folder / "AFLW2000/image00003.png").unlink()
    with pytest.raises(
        InputError, match=r"1 of 7 listed images are not in .* \(AFLW2000/image00003.png\).*--allow-missing"
    ):
        keep_present(read(folder))
    kept = keep_present(read(folder), allow_missing=True)
    assert (len(kept.records), kept.missing) == (6, 1)
    assert "AFLW2000/image00003.png" not in kept.records["path"]


def test_a_folder_without_any_listed_image_is_an_error_in_any_case(folder):
    for path in (folder / "AFLW2000").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"7 of 7 listed images .*image00002.png, \.\.\.\)") as raised:
        keep_present(read(folder), allow_missing=True)
    assert "--allow-missing" not in str(raised.value)


# --- Boxes that do not fit their images ---


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ("90 0 60 60", "box outside its image: .*90 rows and 100 columns; got row 90, column 0, size 60"),
        ("0 -60 60 60", "box outside its image"),
        ("0 0 100000 100000", "box of over 4 times its image.*; got the size 100000"),
    ],
)
def test_a_box_that_does_not_fit_its_image_is_refused_by_file_and_line_before_any_work(box, reason, folder):
    rows = rows_of(folder / "crop.txt")
    rows[3] = f"./AFLW2000/image00003.png\t{box}"
    (folder / "crop.txt").write_text("\n".join(["", *rows]))
    with pytest.raises(InputError, match=rf"crop\.txt, line 5, AFLW2000/image00003\.png: {reason}"):
        keep_present(read(folder))
    with pytest.raises(InputError, match=rf"crop\.txt, line 5, .*{reason}"):
        list(scoring_batches(read(folder), 4, 0.2, 1))


def test_rows_of_the_published_lists_whose_box_does_not_fit_are_rejected_by_reason(folder, publish):
    boxes = [f"./AFLW2000/image{n:05d}.png\t{row} 0 60 60" for n, row in enumerate((0, 89, 90, 500, 0, 0, 0))]
    angles = [f"./AFLW2000/image{n:05d}.png\t0\t0\t0" for n in range(7)]
    write_lists(folder, boxes, angles, ("Aflw2000crop.txt", "Aflw2000_euler_cls.txt"))
    publish(folder, "aflw2000")
    kept = keep_present(load_dataset("aflw2000", folder))
    assert kept.rejected == {"box outside its image": ["AFLW2000/image00002.png", "AFLW2000/image00003.png"]}
    assert kept.usable == tuple(kept.records["path"]) and len(kept.usable) == 5  # 1 reaches over the border


def test_a_box_is_judged_by_the_image_as_exif_turns_it(folder):
    from PIL import Image

    turned = Image.Exif()
    turned[0x112] = 6
    (folder / "AFLW2000/image00001.png").unlink()
    Image.new("RGB", (300, 50)).save(folder / "AFLW2000/image00001.png", "JPEG", exif=turned)
    rows = rows_of(folder / "crop.txt")
    (folder / "crop.txt").write_text("\n".join([rows[0], "AFLW2000/image00001.png\t250 10 40 40", *rows[2:]]))
    assert len(keep_present(read(folder)).records) == 7


# --- Checking ---


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


@pytest.mark.parametrize("path", LAYOUT.values())
def test_an_absent_image_makes_a_folder_incomplete(path, three_sets, capsys):
    (three_sets / path).unlink()
    assert not check_data_folder(three_sets)
    text = capsys.readouterr().out
    assert f"images: 0 of 1 found\n  missing: 1, the first is {path}; expected as " in text
    assert text.endswith("missing images: 1\n")
    assert text.count("get them from: ") == 1 and text.count("1 of 1 found") == 2


@pytest.mark.parametrize("names", LAYOUT)
def test_an_absent_or_malformed_list_does_not_hide_the_others(names, three_sets, capsys):
    (three_sets / "lists" / names[0]).unlink()
    (three_sets / "lists" / "300w_euler_cls.txt").write_text("a.jpg\t1")
    assert not check_data_folder(three_sets)
    text = capsys.readouterr().out
    assert (
        f"{names[0]} is neither in {three_sets} nor in {three_sets / 'lists'}; get it with: python data_loaders.py"
        in text
    )
    assert "300wcrop.txt" in names[0] or "300w_euler_cls.txt, line 1: malformed angles" in text
    assert text.count("1 of 1 found") == (2 if names[0] == "300wcrop.txt" else 1)


def test_a_damaged_or_unreadable_image_makes_a_folder_incomplete(three_sets, capsys):
    _, second, third = (three_sets / path for path in LAYOUT.values())
    assert check_data_folder(three_sets) and "damaged" not in capsys.readouterr().out
    second.write_bytes(with_gap(second.read_bytes()))
    assert not check_data_folder(three_sets)
    assert "damaged: AFLW2000/image00002.jpg: Corrupt JPEG data" in capsys.readouterr().out
    third.write_bytes(b"text")
    assert not check_data_folder(three_sets)
    assert "cannot be read: BIWI/hpdb/01/frame_00003_rgb.png: not an image" in capsys.readouterr().out


def test_images_that_the_boxes_do_not_fit_make_a_folder_incomplete(three_sets, capsys):
    write_image(three_sets / "AFLW2000/image00002.jpg", np.zeros((1, 2, 3), np.uint8))
    assert not check_data_folder(three_sets)
    text = capsys.readouterr().out
    assert "boxes: " in text and "image00002.jpg: box outside its image" in text
    assert text.endswith("AFLW2000: boxes that do not fit their images\n")


def run(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False
    )


def test_the_command_says_of_an_empty_folder_what_is_missing_and_where_to_get_it(tmp_path):
    done = run("--data-dir", tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    for text in (
        "300wcrop.txt",
        "Aflw2000crop.txt",
        "biwi_rect.txt",
        "--fetch-lists",
        "300W-LP.zip",
        "AFLW2000-3D.zip",
    ):
        assert text in done.stdout


def test_the_command_ends_with_status_0_for_a_complete_folder_with_the_published_lists_alone(
    three_sets, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["data_loaders.py", "--data-dir", str(three_sets)])
    assert data_folder.main() == 0
    assert "not ready" not in capsys.readouterr().out
    other = three_sets / "lists/biwi_rect.txt"
    other.write_bytes(other.read_bytes() + b"\n")
    assert data_folder.main() == 1
    text = capsys.readouterr().out
    assert f"move {other} away, then add --fetch-lists" in text
    assert text.splitlines()[-1] == "not ready for the paper's runs: BIWI: biwi_rect.txt is not the published list"


def test_missing_frames_are_given_by_ranges(three_sets):
    frames = [f"BIWI/hpdb/{video}/frame_{number:05d}_rgb.png" for video in ("01", "02") for number in (0, 3, 4, 7, 9)]
    (three_sets / "lists/biwi_rect.txt").write_text("".join(f"./{path}\t1 2 3 3\n" for path in frames))
    (three_sets / "lists/biwi_angle.txt").write_text("".join(f"./{path}\t1\t2\t3\n" for path in frames))
    there = {frames[2], *frames[5:]}
    listed = load_dataset("biwi", three_sets)
    assert [*missing_frames(listed, there)] == ["01: 1 of 5 present, missing 00000-00003, 00007-00009"]
    assert [*missing_frames(listed, set(frames) - {frames[8]})] == ["02: 4 of 5 present, missing 00007"]


# --- Annotations ---
FACE = [[2, 5, 3], [1, 4, 2], [0, 0, 0]]  # x, y and z of landmarks around the box of the fixture's rows


def annotate(folder, name, roll=-0.1, landmarks=FACE):
    """A `.mat` file beside an image of the fixture, with the angles of its row in the signs of `.mat` files."""
    key = "pt3d_68" if len(landmarks) == 3 else "pt2d"
    savemat(folder / name, {"Pose_Para": [[0.2, 0.3, roll, 0, 0, 0, 1]], key: np.array(landmarks, float)})


def test_angles_are_compared_with_the_mat_files_that_are_there(three_sets, capsys):
    annotate(three_sets, "AFLW2000/image00002.mat", -0.1 * np.pi / 3.14)
    annotate(three_sets, "300W_LP/AFW/AFW_1_0.mat", landmarks=FACE[:2])
    assert check_data_folder(three_sets)
    assert capsys.readouterr().out.count("annotations: 1 found, 0 that differ by over 0.1°, 0 with a box") == 2
    annotate(three_sets, "AFLW2000/image00002.mat", 0.1)
    assert not check_data_folder(three_sets)
    text = capsys.readouterr().out
    assert "annotations: 1 found, 1 that differ by over 0.1°, 0 with a box" in text
    assert "angles differ, in list signs: AFLW2000/image00002.jpg: yaw 17.19°, in image00002.mat 17.19°, pitch" in text
    assert "roll 5.73°, in image00002.mat -5.73°\n" in text
    assert text.splitlines()[-1] == "not ready for the paper's runs: AFLW2000: rows whose angles differ: 1"


@pytest.mark.parametrize("rows", [3, 2])
def test_a_box_that_does_not_lie_on_the_landmarks_is_named(rows, three_sets, capsys):
    annotate(three_sets, "AFLW2000/image00002.mat", landmarks=np.add(FACE, [[1], [1], [0]])[:rows])
    assert check_data_folder(three_sets)
    assert "box: AFLW2000/image00002.jpg: an overlap of 0.44 with the landmarks in " in capsys.readouterr().out
    annotate(three_sets, "AFLW2000/image00002.mat", landmarks=np.add(FACE, [[0], [1], [0]])[:rows])
    assert check_data_folder(three_sets)
    assert "box:" not in capsys.readouterr().out


def test_pose_files_of_biwi_are_compared_in_the_order_and_signs_of_its_list(three_sets, capsys):
    # Frame 00003 of video 12: angles of the published list, rotation of the data card of `biwi_kinect_head_pose`.
    (three_sets / "lists/biwi_angle.txt").write_text("BIWI/hpdb/12/frame_00003_rgb.png\t6.39439\t-0.40492\t9.32747\n")
    (three_sets / "lists/biwi_rect.txt").write_text("BIWI/hpdb/12/frame_00003_rgb.png\t1 2 3 3\n")
    pose = write_image(three_sets / "BIWI/hpdb/12/frame_00003_rgb.png").with_name("frame_00003_pose.txt")
    pose.write_text(
        "0.980639 0.109899 0.162077 \n-0.11023 0.993882 -0.00697376 \n-0.161851 -0.011027 0.986754 \n\n1 2 3\n"
    )
    check_data_folder(three_sets)
    assert "annotations: 1 found, 0 that differ by over 0.1°" in capsys.readouterr().out
    pose.write_text("1 0 0 \n0 1 0 \n0 0 1 \n\n1 2 3\n")
    check_data_folder(three_sets)
    text = capsys.readouterr().out
    assert "yaw 9.33°, in frame_00003_pose.txt 0.00°, pitch" in text
    assert text.endswith(", rows whose angles differ: 1\n")


@pytest.mark.parametrize(
    ("image", "file", "content"),
    [
        ("AFLW2000/image00002.jpg", "AFLW2000/image00002.mat", b"text"),
        ("AFLW2000/image00002.jpg", "AFLW2000/image00002.mat", b""),
        ("BIWI/hpdb/01/frame_00003_rgb.png", "BIWI/hpdb/01/frame_00003_pose.txt", b"1 0 0\n0 1 0\n0 1 0\n"),
        ("BIWI/hpdb/01/frame_00003_rgb.png", "BIWI/hpdb/01/frame_00003_pose.txt", b"1 0 0\n0 1\n"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_named(image, file, content, three_sets, capsys):
    (three_sets / file).write_bytes(content)
    assert check_data_folder(three_sets)
    assert f"annotation cannot be read: {image}: {three_sets / file} is not" in capsys.readouterr().out


def test_the_command_ends_with_status_2_and_one_line_where_the_lists_cannot_be_fetched(tmp_path):
    for url in ("http://127.0.0.1:9/", "no address"):
        done = run("--data-dir", tmp_path, "--fetch-lists", url)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert done.stderr.startswith(f"error: {url.rstrip('/')}/300wcrop.txt could not be downloaded")
        assert not list(tmp_path.iterdir())


# --- Damaged images ---


def test_every_image_of_a_folder_is_decoded_and_the_damaged_ones_are_named(tmp_path):
    paths = [write_image(tmp_path / name) for name in ("a.jpg", "below/b.JPG", "c.png")]
    done = run("--data-dir", tmp_path, "--check-images")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "3 images decoded: 0 cannot be read, 0 with warnings")
    paths[1].write_bytes(with_gap(paths[1].read_bytes()))
    paths[2].write_bytes(b"text")
    done = run("--data-dir", tmp_path, "--check-images")
    assert done.returncode == 1
    assert done.stdout.splitlines()[:3] == [
        "below/b.JPG: Corrupt JPEG data: premature end of data segment",
        "c.png: not an image that OpenCV can read; get the file again",
        "3 images decoded: 1 cannot be read, 1 with warnings",
    ]


def test_a_folder_without_images_cannot_be_checked(tmp_path):
    with pytest.raises(InputError, match="no images in it"):
        check_images(tmp_path)


def test_it_is_noted_where_warnings_cannot_be_seen(tmp_path, monkeypatch, capsys):
    write_image(tmp_path / "a.jpg")
    monkeypatch.setattr(data_folder, "warnings_are_seen", lambda: False)
    assert check_images(tmp_path) and data_folder.UNSEEN in capsys.readouterr().out


# --- Fetching ---


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server on loopback with two "published" lists; the file `cut` makes it break off in the middle."""
    served = tmp_path / "served"
    served.mkdir()
    contents = {"300wcrop.txt": b"first list\n" * 1000, "biwi_rect.txt": b"second list\r\n" * 10}
    for name, content in contents.items():
        (served / name).write_bytes(content)
    monkeypatch.setattr(data_folder, "PUBLISHED_BLOBS", {name: blob_id(text) for name, text in contents.items()})

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=served)

        def copyfile(self, source, outputfile):
            content = source.read()
            outputfile.write(content[: len(content) // 2] if (served / "cut").exists() else content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as loopback:
        threading.Thread(target=loopback.serve_forever, args=(0.01,), daemon=True).start()
        yield served, f"http://127.0.0.1:{loopback.server_port}"
        loopback.shutdown()


@pytest.mark.parametrize("end", ["", "/"])
def test_lists_are_fetched_and_verified_once(end, server, tmp_path, capsys):
    served, url = server
    fetch_lists(tmp_path / "data", url + end)
    found = {path.name: path.read_bytes() for path in (tmp_path / "data/lists").iterdir()}
    assert found == {path.name: path.read_bytes() for path in served.iterdir()}
    assert "300wcrop.txt: fetched and verified, 11,000 bytes" in capsys.readouterr().out
    fetch_lists(tmp_path / "data", "http://127.0.0.1:9")
    assert capsys.readouterr().out.count("already there") == 2


def test_a_corrupted_download_is_not_kept(server, tmp_path):
    served, url = server
    (served / "biwi_rect.txt").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"biwi_rect.txt is not the published list: git blob .* nothing was written"):
        fetch_lists(tmp_path, url)
    assert [path.name for path in (tmp_path / "lists").iterdir()] == ["300wcrop.txt"]


def test_an_interrupted_download_is_not_kept(server, tmp_path):
    served, url = server
    (served / "cut").touch()
    with pytest.raises(InputError, match=r"300wcrop.txt could not be downloaded.*try again"):
        fetch_lists(tmp_path, url)
    assert not (tmp_path / "lists").exists()


def test_another_list_in_the_place_of_a_published_one_is_kept(server, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/300wcrop.txt").write_bytes(b"my own")
    with pytest.raises(InputError, match="exists and is not the published list; move it away"):
        fetch_lists(tmp_path, server[1])
    assert (tmp_path / "lists/300wcrop.txt").read_bytes() == b"my own"
