"""Pairs of lists joined by path: records, splits, parts, and the places of images."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.images import grey, write_image
from helpers.lists import lines_of, read, write_lists
from sklearn.model_selection import GroupShuffleSplit

from rafa.datasets.lists import (
    find_list,
    has_lists,
    image_path,
    limited,
    listed_image,
    load_dataset,
    read_lists,
    select_split,
)
from rafa.datasets.sets import BIWI_PERSON, BIWI_SPLITS, SPLIT_FRAMES
from rafa.pose import AXES, LIST_ORDER
from rafa.script import InputError

PARITY = Path(__file__).parents[1] / "parity"
DATA = os.environ.get("RAFA_DATA", "")  # your own data folder with the published lists, to test on those too
needs_data = pytest.mark.skipif(not DATA, reason="RAFA_DATA names no data folder")


# --- Your own lists ---


def test_rows_become_records_in_axis_order(folder):
    listed = read(folder)
    record = listed.records[2]
    assert (record["path"], record["row"], record["column"], record["size"]) == ("AFLW2000/image00002.png", 12, 10, 60)
    np.testing.assert_allclose(record["angles"], [2 / 40, -2 / 20, 2 / 10])  # yaw, pitch, roll
    assert image_path(listed, record) == folder / "AFLW2000/image00002.png"
    assert (listed.dataset.title, listed.split, listed.rejected, listed.notes) == ("your own lists", "all", {}, ())
    assert not listed.published


def test_lists_are_joined_by_path_and_say_so_when_their_order_differs(folder):
    expected = read(folder)
    (folder / "angles.txt").write_text("\n".join(reversed(lines_of(folder / "angles.txt"))))
    listed = read(folder)
    np.testing.assert_array_equal(listed.records, expected.records)
    assert listed.notes == ("the two lists name their images in different orders; they were joined by path",)


def test_images_without_a_box_or_in_one_list_alone_are_counted_by_reason(folder):
    boxes, angles = lines_of(folder / "crop.txt"), lines_of(folder / "angles.txt")
    boxes[1], boxes[3] = boxes[1].split("\t")[0], boxes[3].split("\t")[0] + "\t"
    angles[5] = angles[5].replace("image00005", "image99999")
    write_lists(folder, boxes, angles)
    listed = read(folder)
    assert len(listed.records) == len(listed.usable) == 4
    assert listed.rejected == {
        "no box": ["AFLW2000/image00001.png", "AFLW2000/image00003.png"],
        "not in the angle list": ["AFLW2000/image00005.png"],
        "not in the crop list": ["AFLW2000/image99999.png"],
    }
    assert "2 rejected: no box, 1 rejected: not in the angle list" in listed.summary()
    write_lists(folder, [row.split("\t")[0] for row in boxes], angles)
    with pytest.raises(InputError, match="no image with a box and angles; 7 no box"):
        read(folder)


# --- Registered datasets ---


def test_lists_are_found_in_the_data_folder_and_in_its_lists(tmp_path):
    for name in ("biwi_rect.txt", "biwi_angle.txt"):
        with pytest.raises(InputError, match=f"{name} is neither in .*--fetch-lists"):
            load_dataset("biwi", tmp_path)
        assert find_list(tmp_path, name) is None and not has_lists("biwi", tmp_path)
        (tmp_path / "lists").mkdir(exist_ok=True)
        (tmp_path / "lists" / name).touch()
        assert find_list(tmp_path, name) == tmp_path / "lists" / name
    assert has_lists("biwi", tmp_path)
    (tmp_path / "biwi_rect.txt").touch()
    assert find_list(tmp_path, "biwi_rect.txt") == tmp_path / "biwi_rect.txt"


def test_lists_that_are_not_the_published_ones_are_noted(folder):
    (folder / "crop.txt").rename(folder / "Aflw2000crop.txt")
    (folder / "angles.txt").rename(folder / "Aflw2000_euler_cls.txt")
    listed = load_dataset("aflw2000", folder)
    assert not listed.published
    assert listed.notes == (
        "Aflw2000crop.txt is not the published list",
        "Aflw2000_euler_cls.txt is not the published list",
        "7 rows, 7 usable; the published lists have 1,955 rows, 1,947 usable",
    )
    assert load_dataset("synthetic", folder).notes == ()  # whose lists have the same names


def test_one_published_list_of_two_is_not_a_published_pair(folder, publish):
    (folder / "crop.txt").rename(folder / "Aflw2000crop.txt")
    (folder / "angles.txt").rename(folder / "Aflw2000_euler_cls.txt")
    publish(folder, "aflw2000")
    assert load_dataset("aflw2000", folder).published
    for name in ("Aflw2000crop.txt", "Aflw2000_euler_cls.txt"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b"\n")
        listed = load_dataset("aflw2000", folder)
        assert not listed.published and listed.notes[0] == f"{name} is not the published list"
        (folder / name).write_bytes(content)


def test_lists_in_the_published_format_of_aflw2000_give_1947_of_1955(tmp_path, publish):
    numbers = range(2, 2 + 1955)
    boxes = [f"./AFLW2000/image{n:05d}.jpg" + (f"\t{n} {2 * n} 7 7 " if n % 244 else "") for n in numbers]
    angles = [f"./AFLW2000/image{n:05d}.jpg\t-0.001\t0.002\t0.003\t89\t90\t90" for n in numbers]
    write_lists(tmp_path, boxes, angles, ("Aflw2000crop.txt", "Aflw2000_euler_cls.txt"))
    publish(tmp_path, "aflw2000")
    listed = load_dataset("aflw2000", tmp_path)
    assert listed.published and listed.notes == ()
    assert (listed.files[0].rows, len(listed.records), len(listed.rejected["no box"])) == (1955, 1947, 8)
    np.testing.assert_array_equal(listed.records["column"], 2 * listed.records["row"])
    np.testing.assert_allclose(listed.records["angles"].sum(axis=0), 1947 * np.array([0.003, 0.002, -0.001]))
    with (tmp_path / "Aflw2000crop.txt").open("a") as file:
        file.write("\nAFLW2000/image99999.jpg\n")
    publish(tmp_path, "aflw2000")
    assert "1,956 rows, 1,947 usable" in load_dataset("aflw2000", tmp_path).notes[0]


@needs_data
@pytest.mark.parametrize("name", ["aflw2000", "biwi"])
def test_the_published_lists_give_what_the_released_loader_reads(name):
    expected = json.loads((PARITY / "lists.json").read_text())[name]
    listed = load_dataset(name, DATA)
    assert listed.published and not listed.notes
    check_sums(expected, listed.records)
    for which, record in (("first", listed.records[0]), ("last", listed.records[-1])):
        assert f"/{record['path']}" == expected[which]["path"]
        angles = dict(zip(AXES, record["angles"], strict=True))
        in_list_order = [angles[axis] for axis in LIST_ORDER]
        np.testing.assert_allclose(in_list_order, expected[which]["roll_pitch_yaw_radians"], atol=1e-6)
        assert [record[name] for name in ("column", "row", "size")] == expected[which]["column_row_size"]


@needs_data
@pytest.mark.parametrize(
    ("key", "split", "part"),
    [("biwi_70", "17-7", "train"), ("biwi_30", "17-7", "test"), ("biwi_30_s3", "17-7-b", "test")],
)
def test_the_published_splits_are_found_by_video(key, split, part):
    check_sums(json.loads((PARITY / "lists.json").read_text())[key], load_dataset("biwi", DATA, split, part).records)


@needs_data
@pytest.mark.parametrize("split", SPLIT_FRAMES)
def test_the_published_lists_have_the_frames_of_each_split(split):
    assert len(load_dataset("biwi", DATA, split).records) == SPLIT_FRAMES[split]


def check_sums(expected, records):
    assert len(records) == expected["rows"]
    totals = [records["angles"][:, AXES.index(axis)].sum() for axis in LIST_ORDER]
    np.testing.assert_allclose(totals, expected["sum_roll_pitch_yaw_radians"], atol=0.01)
    assert [records[name].sum() for name in ("column", "row", "size")] == expected["sum_column_row_size"]


# --- BIWI splits ---


@pytest.fixture
def biwi(tmp_path, publish):
    """The lists of a BIWI of two frames a video."""
    frames = [f"./BIWI/hpdb/{video}/frame_{n:05d}_rgb.png" for video in BIWI_PERSON for n in (3, 4)]
    boxes = [f"{frame}\t1 2 3 3 " for frame in frames]
    angles = [f"{frame}\t10\t20\t30" for frame in frames]
    write_lists(tmp_path, boxes, angles, ("biwi_rect.txt", "biwi_angle.txt"))
    publish(tmp_path, "biwi")
    return tmp_path


@pytest.mark.parametrize(("split", "shared"), [("17-7", {"02", "07", "15"}), ("17-7-b", {"02"}), ("16-8", set())])
def test_of_20_people_four_are_recorded_twice_and_whose_person_is_in_training_too_is_as_stated(split, shared):
    assert list(BIWI_PERSON) == [f"{video:02d}" for video in range(1, 25)] and len(set(BIWI_PERSON.values())) == 20
    for first, second in (("02", "21"), ("03", "15"), ("05", "18"), ("07", "22")):
        assert BIWI_PERSON[first] == BIWI_PERSON[second]
    trained = {person for video, person in BIWI_PERSON.items() if video not in BIWI_SPLITS[split]}
    assert {video for video in BIWI_SPLITS[split] if BIWI_PERSON[video] in trained} == shared


def test_biwis_degrees_become_radians_videos_are_known_and_persons_only_in_the_published_lists(biwi):
    with pytest.raises(InputError, match="published list, which is in degrees"):
        read_lists(biwi / "biwi_rect.txt", biwi / "biwi_angle.txt", "radians", biwi)
    records = load_dataset("biwi", biwi).records
    np.testing.assert_allclose(np.degrees(records["angles"]), [[30, 20, 10]] * 48)  # yaw, pitch, roll
    assert dict(zip(records["video"].tolist(), records["person"].tolist(), strict=True)) == BIWI_PERSON
    with (biwi / "biwi_rect.txt").open("a") as file:
        file.write("\n")
    records = load_dataset("biwi", biwi).records
    assert records["person"].tolist() == records["video"].tolist() and records["video"][0] == "01"


@pytest.mark.parametrize("split", BIWI_SPLITS)
def test_a_split_tests_on_its_videos_and_trains_on_all_others(split, biwi):
    test, train = (load_dataset("biwi", biwi, split, part) for part in ("test", "train"))
    assert set(test.records["video"]) == set(BIWI_SPLITS[split])
    assert set(train.records["video"]) == set(BIWI_PERSON) - set(BIWI_SPLITS[split])
    assert (test.split, train.split) == (f"{split} test", f"{split} train")
    assert test.usable == tuple(test.records["path"])
    assert len(test.records) + len(train.records) == len(load_dataset("biwi", biwi).records) == 48


def test_the_splits_are_as_long_as_their_names_say():
    assert [len(videos) for videos in BIWI_SPLITS.values()] == [7, 7, 8]
    assert BIWI_SPLITS.keys() == SPLIT_FRAMES.keys()
    expected = json.loads((PARITY / "lists.json").read_text())
    assert SPLIT_FRAMES["17-7"] == expected["biwi_30"]["rows"] == 15648 - expected["biwi_70"]["rows"]
    assert SPLIT_FRAMES["17-7-b"] == expected["biwi_30_s3"]["rows"]


def test_the_16_8_split_is_the_seeded_person_disjoint_draw():
    videos, people = np.array(list(BIWI_PERSON)), np.array(list(BIWI_PERSON.values()))
    draws = GroupShuffleSplit(100, test_size=7, random_state=0).split(videos, groups=people)
    drawn = next(videos[test] for _, test in draws if len(test) == 8)
    assert BIWI_SPLITS["16-8"] == tuple(drawn)


def test_an_unknown_or_empty_split_is_refused(folder, biwi):
    with pytest.raises(InputError, match="has no split '16-8'"):
        select_split(read(folder), "16-8", "test")
    with pytest.raises(InputError, match=r"no split '8-16'; .* 17-7, 17-7-b, 16-8"):
        load_dataset("biwi", biwi, "8-16")
    for file in ("biwi_rect.txt", "biwi_angle.txt"):
        (biwi / file).write_text("\n".join(lines_of(biwi / file)[:2]))
    with pytest.raises(InputError, match="the test part of the split 16-8 is empty"):
        load_dataset("biwi", biwi, "16-8")


# --- Parts, and images ---


def test_a_limit_keeps_evenly_spaced_images_and_says_so(folder):
    listed = read(folder)
    part = limited(listed, 3)
    assert part.records["path"].tolist() == listed.records["path"][[0, 3, 6]].tolist()
    assert part.notes == ("limited to 3 of 7 images, evenly spaced",)
    assert len(limited(listed, 1).records) == 1
    for n in (0, 7, 8):
        assert limited(listed, n) is listed


def test_an_image_lies_below_the_data_folder_even_where_a_system_has_decomposed_its_name(folder):
    for file in ("crop.txt", "angles.txt"):
        text = (folder / file).read_text().replace("image00000", "\u00e9").replace("image00001", "e\u0301e\u0301")
        (folder / file).write_text(text, encoding="utf-8")
    listed = read(folder)
    assert listed.records["path"][:2].tolist() == ["AFLW2000/\u00e9.png", "AFLW2000/\u00e9\u00e9.png"]
    (folder / "AFLW2000/\u00e9.png").touch()
    (folder / "AFLW2000/e\u0301e\u0301.png").touch()
    assert all(image_path(listed, record).is_file() for record in listed.records)


def test_an_image_is_judged_with_its_box_and_named_with_the_row_of_the_box(folder):
    (folder / "crop.txt").write_text("\n".join(["", *lines_of(folder / "crop.txt")]))
    listed, path = read(folder), folder / "AFLW2000/image00002.png"
    record, row = listed.records[2], f"{folder / 'crop.txt'}, line 4, AFLW2000/image00002.png"  # box 12 10 60 60
    for rows, columns in ((90, 11), (13, 100)):
        write_image(path, grey(rows, columns))
        assert listed_image(listed, record).shape == (rows, columns, 3)
    for rows, columns in ((90, 10), (12, 100)):
        write_image(path, grey(rows, columns))
        with pytest.raises(InputError, match=f"{row}: box outside"):
            listed_image(listed, record)
    path.write_bytes(b"text")
    with pytest.raises(InputError, match=f"{row}: .*not an image"):
        listed_image(listed, record)
