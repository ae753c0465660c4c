"""One list in the published format: what is read, what is refused with file and line, what is rejected by reason."""

import hashlib
import math

import pytest

from rafa.datasets.rows import (
    PUBLISHED_BLOBS,
    RowError,
    blob_id,
    check_box,
    known_end,
    line_of,
    listed_path,
    parse_angles,
    parse_box,
    read_rows,
)
from rafa.script import InputError


def crop_list(folder, content):
    path = folder / "300wcrop.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def as_published(monkeypatch):
    """Let a list be recognised as the published one."""

    def as_published(path):
        monkeypatch.setitem(PUBLISHED_BLOBS, path.name, blob_id(path.read_bytes()))
        return path

    return as_published


def test_a_list_is_recognised_by_its_name_and_content(tmp_path, as_published):
    assert blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"  # as git names it
    path = as_published(crop_list(tmp_path, "a.jpg\t1 2 3 3\nb.jpg\n"))
    _, file, _ = read_rows(path, parse_box)
    assert (file.path, file.rows, file.published) == (str(path), 2, True)
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    other = tmp_path / "biwi_rect.txt"
    other.write_bytes(path.read_bytes())
    assert not read_rows(other, parse_box)[1].published
    path.write_bytes(path.read_bytes() + b"c.jpg\n")
    assert not read_rows(path, parse_box)[1].published


# --- Boxes and angles ---


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("12 34 56 56 ", (12, 34, 56)),
        ("-12\t-34  56 56", (-12, -34, 56)),
        ("1 2 177.0 177.9", (1, 2, 177)),
        ("  ", None),
    ],
)
def test_a_box_is_row_then_column_then_size_twice_cut_to_whole_pixels(text, box):
    assert parse_box(text) == box


MALFORMED = ("1 2 3", "1 2 3 3 3", "1 2 3 x", "1.0 2 3 3", "1 2.0 3 3", "1 2 -3 -3", "1 2 nan nan")


@pytest.mark.parametrize(
    ("text", "reason"),
    [*((text, "malformed box") for text in MALFORMED), *((text, "box not square") for text in ("1 2 3 4", "1 2 0 0"))],
)
def test_a_malformed_box_has_a_reason(text, reason):
    with pytest.raises(RowError) as raised:
        parse_box(text)
    assert raised.value.reason == reason


@pytest.mark.parametrize("box", [(89, 99, 60), (-59, -59, 60), (0, 0, 400)])
def test_a_box_fits_an_image_that_it_touches(box):
    check_box(box, 90, 100)
    check_box((box[1], box[0], box[2]), 100, 90)


@pytest.mark.parametrize("box", [(90, 0, 60), (0, 100, 60), (-60, 0, 60), (0, -60, 60), (0, 0, 401), (0, 0, 0)])
def test_a_box_does_not_fit_an_image_that_it_misses_or_that_is_far_smaller(box):
    with pytest.raises(RowError, match="90 rows and 100 columns"):
        check_box(box, 90, 100)


def test_angles_are_roll_pitch_yaw_and_degrees_become_radians():
    assert parse_angles("0.1\t-0.2\t0.3\t95\t78\t107", "radians") == (0.1, -0.2, 0.3)
    assert parse_angles("180\t-90\t60", "degrees") == pytest.approx((math.pi, -math.pi / 2, math.pi / 3))
    assert parse_angles("6.28\t-6.28\t0", "radians")[:2] == (6.28, -6.28)
    assert parse_angles("360\t-360\t0\t95", "degrees")[2] == 0


@pytest.mark.parametrize(
    ("text", "unit", "reason"),
    [
        ("0.1\t0.2", "radians", "malformed angles"),
        ("", "radians", "malformed angles"),
        ("0.1\tabc\t0.2", "radians", "malformed angles"),
        ("\t10\t20\t95", "degrees", "malformed angles"),  # 95 is a class
        ("0.1\tnan\t0.2", "radians", "angle out of range"),
        ("inf\t0.1\t0.2", "radians", "angle out of range"),
        ("0.1\t0.2\t-6.29", "radians", "angle out of range"),
        ("0.1\t361\t0.2", "degrees", "angle out of range"),
    ],
)
def test_malformed_angles_have_a_reason(text, unit, reason):
    with pytest.raises(RowError) as raised:
        parse_angles(text, unit)
    assert raised.value.reason == reason


# --- Rows ---
READ = {
    "byte order mark": b"\xef\xbb\xbf./A/x.jpg\t1 2 3 3 \n",
    "empty lines": b"\r\n\n./A/x.jpg\t1 2 3 3 \r\n  \r\n",
    "no last newline": b"./A/x.jpg\t1 2 3 3",
    "backslashes": b".\\A\\x.jpg\t1 2 3 3\n",
    "spaces": b" A//x.jpg \t 1  2 3\t3 ",
    "paths from the root": b"/A/x.jpg\t1 2 3 3",
}


@pytest.mark.parametrize("content", READ.values(), ids=READ)
def test_any_list_may_have(content, tmp_path):
    path = crop_list(tmp_path, content)
    rows, file, rejected = read_rows(path, parse_box)
    assert (rows, file.rows, rejected) == ({"A/x.jpg": (1, 2, 3)}, 1, {})
    assert line_of(path, "A/x.jpg") == (3 if content.startswith(b"\r") else 1) and line_of(path, "x.jpg") == 0


def test_line_endings_may_be_mixed(tmp_path):
    path = crop_list(tmp_path, "a.JPG\t1 2 3 3\r\nb.jpeg\t4 5 6 6\nc.png\rd.webp\t7 8 9 9")
    rows = read_rows(path, parse_box)[0]
    assert rows == {"a.JPG": (1, 2, 3), "b.jpeg": (4, 5, 6), "c.png": None, "d.webp": (7, 8, 9)}
    assert [line_of(path, name) for name in rows] == [1, 2, 3, 4]


BAD = [
    ("./A/b.jpg 1 2 3 3", "A/b.jpg 1 2 3 3", "not the path of an image"),  # no tab
    ("./A/b.mat\t1 2 3 3", "A/b.mat", "not the path of an image"),
    ("\t1 2 3 3", ".", "not the path of an image"),
    ("A/" + 155 * "b" + ".jpg\t1 2 3 3", "A/" + 155 * "b" + ".jpg", "path too long"),
    ("A/b.jpg\t1 2 3", "A/b.jpg", "malformed box"),
    ("A/a.jpg\t4 5 6 6", "A/a.jpg", "listed twice"),
]


@pytest.mark.parametrize(("row", "path", "reason"), BAD, ids=[f"{reason}-{n}" for n, (*_, reason) in enumerate(BAD)])
def test_a_bad_row_is_refused_with_file_and_line_but_rejected_by_reason_in_a_published_list(
    row, path, reason, tmp_path, as_published
):
    file = crop_list(tmp_path, f"A/a.jpg\t1 2 3 3\n\n{row}\nA/c.jpg\t7 8 9 9\n")
    with pytest.raises(InputError, match=rf"300wcrop\.txt, line 3: {reason}"):
        read_rows(file, parse_box)
    rows, read, rejected = read_rows(as_published(file), parse_box)
    assert rows == {"A/a.jpg": (1, 2, 3), "A/c.jpg": (7, 8, 9)}
    assert (rejected, read.rows) == ({reason: [path]}, 3)


def test_a_path_of_160_characters_is_read_whole(tmp_path):
    path = "A/" + 154 * "b" + ".jpg"
    assert list(read_rows(crop_list(tmp_path, path), parse_box)[0]) == [path]


def test_a_list_that_is_absent_or_no_text_is_named(tmp_path):
    for path in (tmp_path / "absent.txt", crop_list(tmp_path, b"A/\xff\xfe.jpg\t1 2 3 3")):
        with pytest.raises(InputError, match=f"{path}: the list cannot be read"):
            read_rows(path, parse_box)


# --- Paths ---


@pytest.mark.parametrize("text", ["A/\u00e9.jpg", "./A//\u00e9.jpg ", "A\\\u00e9.jpg", "A/e\u0301.jpg"])
def test_a_path_has_one_spelling(text):
    assert listed_path(text) == "A/\u00e9.jpg"


@pytest.mark.parametrize(
    ("path", "end"),
    [
        ("A/x.jpg", "A/x.jpg"),
        ("./A//x.jpg", "A/x.jpg"),
        ("C:\\data\\A\\x.jpg", "A/x.jpg"),
        ("/data/A/x.jpg", "A/x.jpg"),
        ("/data/B/x.jpg", "x.jpg"),
        ("/data/xx.jpg", None),
    ],
)
def test_the_longest_end_of_a_path_that_is_known_counts_however_it_is_spelt(path, end):
    assert known_end(path, {"x.jpg", "A/x.jpg"}) == end
