"""The published lists of 300W-LP, which were never seen here and may hold anything: bad rows do not end a run."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rafa.datasets.lists import load_dataset, read_lists
from rafa.script import InputError

# image, row of the crop list, row of the angle list → (row, column, size) or why it is rejected
QUIRKS = [
    ("plain", "{}\t1 2 3 3 \r\n", "{}\t0.1\t0.2\t0.3\t95\t101\t107\n", (1, 2, 3)),
    ("whole", "{}\t1 2 177.0 177.0 \n", "{}\t0.1\t0.2\t0.3\t95\t101\t107\r\n", (1, 2, 177)),
    ("backslash", ".\\300W_LP\\AFW\\backslash.jpg\t4 5 6 6\n", "{}\t0.1\t0.2\t0.3\n", (4, 5, 6)),
    ("corner", "{}\t0 0 6 6\n", "{}\t0.1\t0.2\t0.3\n", (0, 0, 6)),
    ("root", "/300W_LP/AFW/root.jpg\t4 5 6 6\n", "{}\t0.1\t0.2\t0.3\n", (4, 5, 6)),
    ("upper", "300W_LP/AFW/upper.JPG\t4 5 6 6\n", "300W_LP/AFW/upper.JPG\t0.1\t0.2\t0.3\n", (4, 5, 6)),
    ("classes", "{}\t4 5 6 6\n", "{}\t0.1\t0.2\t0.3\t95\n", (4, 5, 6)),
    ("bare", "{}\n", "{}\t0.1\t0.2\t0.3\n", "no box"),
    ("negative", "{}\t-1 2 3 3\n", "{}\t0.1\t0.2\t0.3\n", "box starts outside the image"),
    ("left", "{}\t1 -2 3 3\n", "{}\t0.1\t0.2\t0.3\n", "box starts outside the image"),
    ("word", "{}\t1 2 3 3\n", "{}\t0.1\tnone\t0.3\n", "malformed angles"),
    ("alone", "{}\t1 2 3 3\n", "", "not in the angle list"),
    ("unboxed", "", "{}\t0.1\t0.2\t0.3\n", "not in the crop list"),
    ("two", "{}\t1 2\n", "{}\t0.1\n", "malformed box"),  # bad in both: counted once
    ("both", "{}\n", "{}\t0.1\n", "no box"),
]


@pytest.fixture
def quirks(tmp_path):
    """A folder with lists of 300W-LP that hold every quirk."""
    crops = "\ufeff" + "".join(box.format(f"./300W_LP/AFW/{name}.jpg") for name, box, _, _ in QUIRKS)
    angles = "".join(row.format(f"./300W_LP/AFW/{name}.jpg") for name, _, row, _ in QUIRKS)
    (tmp_path / "300wcrop.txt").write_bytes(crops.encode())
    (tmp_path / "300w_euler_cls.txt").write_bytes(angles.encode())
    return tmp_path


def test_every_row_of_a_published_crop_list_is_used_or_counted(tmp_path, publish):
    rows = ("a.jpg\n", "a.jpg\t1 2 3 3\n", "b.jpg\t1 2 3 3\n", "b.jpg\t1 2 3 3\n", "c.jpg\t1 2 3 3\n")
    (tmp_path / "300wcrop.txt").write_text("".join(rows))
    (tmp_path / "300w_euler_cls.txt").write_text("a.jpg\t1\t2\t3\nc.jpg\t1\t2\t3\nc.jpg\t1\t2\t3\nd.jpg\tx\n")
    publish(tmp_path, "300w-lp")
    listed = load_dataset("300w-lp", tmp_path)
    assert listed.records["path"].tolist() == ["c.jpg"] and listed.files[0].rows == 5
    assert {reason: sorted(paths) for reason, paths in listed.rejected.items()} == {
        "listed twice": ["a.jpg", "b.jpg"],  # the first of two rows of c.jpg in the angle list counts
        "no box": ["a.jpg"],
        "not in the angle list": ["b.jpg"],
        "not in the crop list": ["d.jpg"],
    }


@pytest.mark.parametrize("how", ["by name", "as lists"])
def test_published_lists_never_end_a_run_and_what_cannot_be_used_is_counted_by_reason(how, quirks, publish):
    publish(quirks, "300w-lp")
    files = (quirks / "300wcrop.txt", quirks / "300w_euler_cls.txt")
    listed = load_dataset("300w-lp", quirks) if how == "by name" else read_lists(*files, "radians", quirks)
    expected = [(name, box) for name, _, _, box in QUIRKS if isinstance(box, tuple)]
    assert [Path(path).stem for path in listed.records["path"]] == [name for name, _ in expected]
    assert [tuple(record)[1:4] for record in listed.records] == [box for _, box in expected]
    np.testing.assert_array_equal(listed.records["angles"], [[0.3, 0.2, 0.1]] * len(expected))
    rejected = [(reason, f"300W_LP/AFW/{name}.jpg") for name, _, _, reason in QUIRKS if isinstance(reason, str)]
    assert Counter((reason, path) for reason, paths in listed.rejected.items() for path in paths) == Counter(rejected)
    assert listed.published and listed.notes == ()
    unlisted = 1  # in the angle list only
    assert listed.files[0].rows + unlisted == len(listed.records) + len(rejected)


def test_in_lists_that_are_not_the_published_ones_a_box_may_start_outside_and_a_malformed_row_is_refused(tmp_path):
    rows = {name: (box.format(f"{name}.jpg"), angles.format(f"{name}.jpg")) for name, box, angles, _ in QUIRKS}
    for name in ("negative", "left"):
        (tmp_path / "300wcrop.txt").write_text(rows[name][0])
        (tmp_path / "300w_euler_cls.txt").write_text(rows[name][1])
        assert load_dataset("300w-lp", tmp_path).records["path"] == [f"{name}.jpg"]
    (tmp_path / "300w_euler_cls.txt").write_text(rows["word"][1])
    with pytest.raises(InputError, match="line 1: malformed angles"):
        load_dataset("300w-lp", tmp_path)


def test_one_published_list_beside_your_own_is_still_read_generously(quirks, publish):
    (quirks / "300w_euler_cls.txt").write_text("300W_LP/AFW/plain.jpg\t0\t0\t0\n300W_LP/AFW/word.jpg\tx\t0\t0\n")
    publish(quirks, "300w-lp")
    own = "".join(f"300W_LP/AFW/{name}.jpg\t1 2 3 3\n" for name in ("plain", "word"))
    (quirks / "300wcrop.txt").write_text(own)
    listed = load_dataset("300w-lp", quirks)
    assert listed.rejected == {"malformed angles": ["300W_LP/AFW/word.jpg"]} and not listed.published
