"""Lists, crops, batches, the data-folder check and the download of the lists."""

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.model_selection import GroupShuffleSplit

import data_loaders
from data_loaders import AXES, BIWI_PERSON, BIWI_SPLITS, crop, read_lists, rotation_angles, rotation_matrix
from util.errors import InputError

PARITY = Path(__file__).parent / "parity"
ROOT = Path(__file__).parent.parent
REAL = ROOT.parent / "shared" / "data"


@pytest.fixture
def folder(tmp_path):
    """A data folder with seven generated pictures and their lists."""
    rng = np.random.default_rng(0)
    boxes, angles = [], []
    for index in range(7):
        name = f"AFLW2000/image{index:05d}.png"
        (tmp_path / "AFLW2000").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), rng.integers(0, 256, (90, 100, 3), np.uint8))
        boxes.append(f"./{name}\t{10 + index} {5 * index} 60 60 ")
        angles.append(f"./{name}\t{index / 10}\t{-index / 20}\t{index / 40}\t90\t90\t90")
    write_lists(tmp_path, boxes, angles)
    return tmp_path


def write_lists(folder, boxes, angles, end="\r\n"):
    (folder / "crop.txt").write_bytes(end.join(boxes).encode())
    (folder / "angles.txt").write_bytes(end.join(angles).encode() + b"\n")


def read(folder, unit="radians"):
    return read_lists(folder / "crop.txt", folder / "angles.txt", unit, folder)


# --- Conventions ---


@pytest.mark.parametrize(
    ("axis", "vector", "component", "sign"),
    [("yaw", (0, 0, 1), 0, -1), ("pitch", (0, 0, 1), 1, -1), ("roll", (1, 0, 0), 1, -1)],
)
def test_positive_angles_turn_left_up_and_counter_clockwise(axis, vector, component, sign):
    angles = np.radians(30) * (np.array(AXES) == axis)
    turned = rotation_matrix(angles) @ np.array(vector, float)
    assert turned[component] == pytest.approx(sign * 0.5)


def test_the_matrix_is_rx_pitch_ry_minus_yaw_rz_roll_in_mat_signs():
    yaw, pitch, roll = 0.5, -0.3, 0.2
    mat_roll = -roll
    c, s = np.cos, np.sin
    rx = np.array([[1, 0, 0], [0, c(pitch), -s(pitch)], [0, s(pitch), c(pitch)]])
    ry = np.array([[c(-yaw), 0, s(-yaw)], [0, 1, 0], [-s(-yaw), 0, c(-yaw)]])
    rz = np.array([[c(mat_roll), -s(mat_roll), 0], [s(mat_roll), c(mat_roll), 0], [0, 0, 1]])
    np.testing.assert_allclose(rotation_matrix([yaw, pitch, roll]), rx @ ry @ rz, atol=1e-12)


def test_angles_and_matrices_round_trip():
    angles = np.random.default_rng(0).uniform(-1.5, 1.5, (50, 3))
    np.testing.assert_allclose(rotation_angles(rotation_matrix(angles)), angles, atol=1e-9)


# --- Lists ---


def test_rows_become_records_in_axis_order(folder):
    listed = read(folder)
    assert listed.records["path"][2] == "AFLW2000/image00002.png"
    assert tuple(listed.records[2])[1:4] == (12, 10, 60)
    np.testing.assert_allclose(listed.records["angles"][2], [2 / 40, -2 / 20, 2 / 10])


def test_lists_are_joined_by_name_and_say_so_when_their_order_differs(folder):
    rows = (folder / "angles.txt").read_text().splitlines()
    expected = read(folder)
    (folder / "angles.txt").write_text("\n".join(reversed(rows)))
    listed = read(folder)
    np.testing.assert_array_equal(listed.records, expected.records)
    assert "joined by name" in listed.notes[0] and not expected.notes


def test_rows_without_a_box_are_rejected_and_counted(folder):
    rows = (folder / "crop.txt").read_text().splitlines()
    rows[1], rows[3] = rows[1].split("\t")[0], rows[3].split("\t")[0] + "\t"
    (folder / "crop.txt").write_text("\n".join(rows))
    listed = read(folder)
    assert len(listed.records) == 5
    assert listed.rejected == {"no box": ["AFLW2000/image00001.png", "AFLW2000/image00003.png"]}


def test_degrees_become_radians(folder):
    (folder / "angles.txt").write_text("".join(f"./AFLW2000/image{index:05d}.png\t10\t20\t-30\n" for index in range(7)))
    np.testing.assert_allclose(np.degrees(read(folder, "degrees").records["angles"][0]), [-30, 20, 10])


@pytest.mark.parametrize(
    ("file", "line", "message"),
    [
        ("crop.txt", "./AFLW2000/image00002.png\t12 10 60", "crop.txt, line 3: expected a box of four whole numbers"),
        ("crop.txt", "./AFLW2000/image00002.png\t12 10 60 x", "four whole numbers"),
        ("crop.txt", "./AFLW2000/image00002.png\t12 10 60 61", "square box of positive size"),
        ("crop.txt", "./AFLW2000/image00002.png\t12 10 0 0", "square box of positive size"),
        ("crop.txt", "./AFLW2000/image00002.png 12 10 60 60", "path of a picture and then a tab"),
        ("crop.txt", "../secret.png\t12 10 60 60", "stay in it"),
        ("crop.txt", "/etc/secret.png\t12 10 60 60", "start at the data folder"),
        (
            "crop.txt",
            "./AFLW2000/image00001.png\t12 10 60 60",
            "line 3: AFLW2000/image00001.png stands in line 2 already",
        ),
        ("angles.txt", "./AFLW2000/image00002.png\t0.1\t0.2", "angles.txt, line 3: expected roll, pitch and yaw"),
        ("angles.txt", "./AFLW2000/image00002.png\t0.1\tabc\t0.2", "could not convert"),
        ("angles.txt", "./AFLW2000/image00002.png\t0.1\tnan\t0.2", "finite angles"),
        ("angles.txt", "./AFLW2000/image00002.png\t0.1\t45\t0.2", "is the unit really radians"),
    ],
)
def test_a_malformed_row_is_refused_with_file_and_line(folder, file, line, message):
    rows = (folder / file).read_text().splitlines()
    rows[2] = line
    (folder / file).write_text("\n".join(rows))
    with pytest.raises(InputError, match=message):
        read(folder)


def test_lists_that_name_different_pictures_are_refused(folder):
    rows = (folder / "angles.txt").read_text().splitlines()
    rows[0] = rows[0].replace("image00000", "image99999")
    (folder / "angles.txt").write_text("\n".join(rows))
    with pytest.raises(
        InputError, match=r"1 pictures are only in the first, 1 only in the second \(AFLW2000/image00000"
    ):
        read(folder)


def test_300w_lp_counts_unpaired_rows_instead(folder):
    rows = (folder / "angles.txt").read_text().splitlines()
    (folder / "300w_euler_cls.txt").write_text("\n".join(rows[1:]))
    (folder / "crop.txt").rename(folder / "300wcrop.txt")
    listed = data_loaders.load_data_set("300w-lp", folder)
    assert len(listed.records) == 6
    assert listed.rejected == {"not in the angle list": ["AFLW2000/image00000.png"]}


def test_a_missing_list_says_where_it_was_looked_for_and_how_to_get_it(tmp_path):
    with pytest.raises(InputError, match=r"(?s)Aflw2000crop.txt is neither in .*--fetch-lists"):
        data_loaders.load_data_set("aflw2000", tmp_path)


def test_lists_that_are_not_the_published_ones_are_noted(folder):
    (folder / "crop.txt").rename(folder / "Aflw2000crop.txt")
    (folder / "angles.txt").rename(folder / "Aflw2000_euler_cls.txt")
    listed = data_loaders.load_data_set("aflw2000", folder)
    assert not listed.published
    assert listed.notes == (
        "Aflw2000crop.txt is not the published list",
        "Aflw2000_euler_cls.txt is not the published list",
        "7 rows, 7 usable; the published lists have 1,955, 1,947",
    )


def test_absent_pictures_are_an_error_unless_allowed(folder):
    (folder / "AFLW2000/image00003.png").unlink()
    with pytest.raises(InputError, match=r"1 of 7 listed pictures are not in .*image00003"):
        data_loaders.keep_present(read(folder))
    kept = data_loaders.keep_present(read(folder), allow_missing=True)
    assert (len(kept.records), kept.missing) == (6, 1)


# --- The published lists, where they are at hand ---


@pytest.mark.skipif(not REAL.is_dir(), reason="the published lists are not here")
@pytest.mark.parametrize("name", ["aflw2000", "biwi"])
def test_the_published_lists_give_what_the_released_loader_reads(name):
    expected = json.loads((PARITY / "lists.json").read_text())[name]
    listed = data_loaders.load_data_set(name, REAL)
    assert listed.published and not listed.notes
    check_against(expected, listed.records)


@pytest.mark.skipif(not REAL.is_dir(), reason="the published lists are not here")
@pytest.mark.parametrize(
    ("key", "split", "part"),
    [("biwi_70", "17-7", "train"), ("biwi_30", "17-7", "test"), ("biwi_30_s3", "17-7-b", "test")],
)
def test_the_published_splits_are_found_by_video(key, split, part):
    expected = json.loads((PARITY / "lists.json").read_text())[key]
    listed = data_loaders.load_data_set("biwi", REAL, split, part)
    assert len(listed.records) == expected["rows"]
    check_sums(expected, listed.records)


def check_against(expected, records):
    assert len(records) == expected["rows"]
    check_sums(expected, records)
    for which, record in (("first", records[0]), ("last", records[-1])):
        assert f"/{record['path']}" == expected[which]["path"]
        angles = dict(zip(AXES, record["angles"], strict=True))
        found = [angles[axis] for axis in ("roll", "pitch", "yaw")]
        np.testing.assert_allclose(found, expected[which]["roll_pitch_yaw_radians"], atol=1e-6)
        assert [record[name] for name in ("column", "row", "size")] == expected[which]["column_row_size"]


def check_sums(expected, records):
    totals = [records["angles"][:, AXES.index(axis)].sum() for axis in ("roll", "pitch", "yaw")]
    np.testing.assert_allclose(totals, expected["sum_roll_pitch_yaw_radians"], atol=0.01)
    assert [records[name].sum() for name in ("column", "row", "size")] == expected["sum_column_row_size"]


# --- BIWI splits ---


def test_biwi_has_24_videos_of_20_people():
    assert len(BIWI_PERSON) == 24 and len(set(BIWI_PERSON.values())) == 20


def test_the_16_8_split_is_the_seeded_person_disjoint_draw():
    videos, people = np.array(list(BIWI_PERSON)), np.array(list(BIWI_PERSON.values()))
    draws = GroupShuffleSplit(100, test_size=7, random_state=0).split(videos, groups=people)
    drawn = next(videos[test] for _, test in draws if len(test) == 8)
    assert BIWI_SPLITS["16-8"] == tuple(drawn)
    test_people = {BIWI_PERSON[video] for video in drawn}
    assert test_people.isdisjoint(BIWI_PERSON[video] for video in videos if video not in drawn)


def test_an_unknown_split_is_refused(folder):
    with pytest.raises(InputError, match=r"has no split '16-8'"):
        data_loaders.select_split(read(folder), "16-8", "test")


# --- Crops ---


@pytest.mark.parametrize("case", range(20))
def test_crops_are_those_of_the_released_code(case):
    parity = np.load(PARITY / "crops.npz")
    picture = cv2.imread(str(PARITY / "crops_image.png"))
    row, column, size, margin = parity["boxes_row_col_size_margin"][case]
    found = crop(picture, row, column, size, margin)
    np.testing.assert_array_equal(found[::4, ::4], parity["crops_bgr_every_4th_pixel"][case])
    assert found.sum(dtype=np.int64) == parity["crop_sums"][case]


@pytest.mark.parametrize(("row", "column"), [(60, 0), (0, 60), (-50, 0), (0, -50), (0, -500), (-500, -500), (500, 500)])
def test_a_box_beside_the_picture_is_black(row, column):
    assert not crop(np.full((50, 50, 3), 9, np.uint8), row, column, 40, 0.1).any()


@pytest.mark.parametrize(("row", "column"), [(-10, -10), (-10, 40), (40, -10), (40, 40), (-10, 5)])
def test_what_lies_outside_the_picture_is_black_and_the_rest_is_in_place(row, column):
    picture = np.random.default_rng(0).integers(1, 256, (60, 60, 3), np.uint8)
    padded = np.pad(picture, ((100, 100), (100, 100), (0, 0)))[row + 100 :, column + 100 :][:32, :32]
    np.testing.assert_array_equal(crop(picture, row, column, 32, 0), cv2.resize(padded, (224, 224)))


def test_the_network_gets_red_first(folder):
    cv2.imwrite(str(folder / "AFLW2000/image00000.png"), np.full((90, 100, 3), (1, 2, 3), np.uint8))
    listed = read(folder)
    assert tuple(data_loaders.load_crop(listed, listed.records[0], 0)[100, 100]) == (3, 2, 1)


def test_an_unreadable_picture_is_named(folder):
    (folder / "AFLW2000/image00004.png").write_bytes(b"not a picture")
    listed = read(folder)
    with pytest.raises(InputError, match=r"image00004.png: not a picture"):
        list(data_loaders.scoring_batches(listed, 2, 0.2, 2))


# --- Batches ---


def test_scoring_takes_every_image_in_order_with_the_last_partial_batch(folder):
    listed = read(folder)
    batches = list(data_loaders.scoring_batches(listed, 3, 0.2, 2))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    crops = np.concatenate(batches)
    for record, found in zip(listed.records, crops, strict=True):
        np.testing.assert_array_equal(found, data_loaders.load_crop(listed, record, 0.2))


def take(listed, count, **options):
    stream = data_loaders.training_batches(listed, 2, 0.5, seed=3, **({"workers": 1} | options))
    return [next(stream) for _ in range(count)]


def test_training_batches_do_not_depend_on_the_number_of_workers(folder):
    listed = read(folder)
    for (crops, angles), (others, other_angles) in zip(take(listed, 7), take(listed, 7, workers=4), strict=True):
        np.testing.assert_array_equal(crops, others)
        for axis in AXES:
            np.testing.assert_array_equal(angles[axis], other_angles[axis])


def test_a_run_that_goes_on_sees_what_it_would_have_seen(folder):
    listed = read(folder)
    whole, resumed = take(listed, 6)[3:], take(listed, 3, first_epoch=1)
    for (crops, _), (others, _) in zip(whole, resumed, strict=True):
        np.testing.assert_array_equal(crops, others)


def test_epochs_differ_in_order_and_margin(folder):
    first, second = take(read(folder), 1), take(read(folder), 1, first_epoch=1)
    assert not np.array_equal(first[0][0], second[0][0])


def test_an_epoch_shows_no_picture_twice(folder):
    yaws = np.concatenate([angles["yaw"][:, 0] for _, angles in take(read(folder), 3)])
    assert len(set(yaws)) == 6


# --- Fetching the lists ---


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server on loopback with two "published" lists; `folder/cut` makes it break off in the middle."""
    served = tmp_path / "served"
    served.mkdir()
    contents = {"300wcrop.txt": b"first list\n" * 1000, "biwi_rect.txt": b"second list\r\n" * 10}
    blobs = {}
    for name, content in contents.items():
        (served / name).write_bytes(content)
        blobs[name] = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    monkeypatch.setattr(data_loaders, "PUBLISHED_BLOBS", blobs)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=served)

        def copyfile(self, source, outputfile):
            content = source.read()
            outputfile.write(content[: len(content) // 2] if (served / "cut").exists() else content)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as loopback:
        threading.Thread(target=loopback.serve_forever, daemon=True).start()
        yield served, f"http://127.0.0.1:{loopback.server_port}/"
        loopback.shutdown()


def test_git_names_a_blob_the_same_way():
    assert data_loaders.blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_lists_are_fetched_and_verified_once(server, tmp_path, capsys):
    served, url = server
    data_loaders.fetch_lists(tmp_path, url)
    assert (tmp_path / "lists/biwi_rect.txt").read_bytes() == (served / "biwi_rect.txt").read_bytes()
    data_loaders.fetch_lists(tmp_path, url)
    assert capsys.readouterr().out.count("there already") == 2


def test_a_corrupted_download_is_not_kept(server, tmp_path):
    served, url = server
    (served / "biwi_rect.txt").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"biwi_rect.txt is not the published list: git blob .* nothing was written"):
        data_loaders.fetch_lists(tmp_path, url)
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == ["300wcrop.txt"]


def test_an_interrupted_download_is_not_kept(server, tmp_path):
    served, url = server
    (served / "cut").touch()
    with pytest.raises(InputError, match=r"could not be downloaded.*try again"):
        data_loaders.fetch_lists(tmp_path, url)
    assert not list((tmp_path / "lists").iterdir())


def test_another_list_in_the_place_of_a_published_one_is_kept(server, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/300wcrop.txt").write_bytes(b"my own")
    with pytest.raises(InputError, match="is not the published list; move it away"):
        data_loaders.fetch_lists(tmp_path, server[1])
    assert (tmp_path / "lists/300wcrop.txt").read_bytes() == b"my own"


def test_checking_an_empty_folder_says_what_is_missing_and_where_to_get_it(tmp_path):
    command = [sys.executable, str(ROOT / "data_loaders.py"), "--data-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    for name in ("300wcrop.txt", "Aflw2000crop.txt", "biwi_rect.txt", "--fetch-lists"):
        assert name in done.stdout
