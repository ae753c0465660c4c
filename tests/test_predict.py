"""A picture, folder or video gives one right row per face; what cannot be read is named and the rest still done."""

import csv
import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import predict
import rafa_model
from data_loaders import AXES, crop, rotation_matrix

ROOT = Path(predict.__file__).parent
BOX = (20, 30, 60)
BOX_OPTION = ("--box", *map(str, BOX))
NOISE = cv2.resize(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8), (160, 120))


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return rafa_model.build_rafa_net("tiny", weights=None)


@pytest.fixture(scope="module")
def weights(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "tiny.keras"
    model.save(path)
    return str(path)


@pytest.fixture
def at_hand(model, monkeypatch):
    """The script gets its network without building it again."""
    monkeypatch.setattr(rafa_model, "load_rafa_net", lambda path: model)


@pytest.fixture
def answer(at_hand, weights, capsys):
    """The script in this process: arguments → (exit status, rows, stderr)."""

    def run(*arguments):
        status = predict.main([*map(str, arguments), "--weights", weights])
        out, err = capsys.readouterr()
        return status, list(csv.DictReader(io.StringIO(out))), err

    return run


def write(path, picture=NOISE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())
    return path


def write_video(path, frames=12):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, NOISE.shape[1::-1])
    rng = np.random.default_rng(1)
    for _ in range(frames):
        writer.write(rng.integers(0, 256, NOISE.shape, np.uint8))
    writer.release()
    return path


def frames_of(path):
    video, frames = cv2.VideoCapture(str(path)), []
    while True:
        there, frame = video.read()
        if not there:
            return frames
        frames.append(frame)


def angles_in(row):
    return [float(row[axis]) for axis in AXES]


def expected(model, picture=NOISE, box=BOX, margin=0.2):
    answers = model.predict_on_batch(crop(picture, *box, margin)[None, ..., ::-1])
    return np.degrees([answers[axis][0, 0] for axis in AXES])


# --- Rows -------------------------------------------------------------------------------------------------------------


def test_a_box_gives_the_network_s_answer_in_degrees(answer, model, tmp_path):
    status, rows, _ = answer(write(tmp_path / "a.png"), *BOX_OPTION)
    assert status == 0 and len(rows) == 1
    assert angles_in(rows[0]) == pytest.approx(expected(model), abs=1e-3)
    assert (rows[0]["row"], rows[0]["column"], rows[0]["size"], rows[0]["status"]) == ("20", "30", "60", "ok")


def test_the_margin_changes_what_the_network_sees(answer, model, tmp_path):
    _, rows, _ = answer(write(tmp_path / "a.png"), *BOX_OPTION, "--margin", 0.5)
    assert angles_in(rows[0]) == pytest.approx(expected(model, margin=0.5), abs=1e-3)
    assert angles_in(rows[0]) != pytest.approx(expected(model), abs=1e-2)


def test_the_sign_of_the_mat_files_turns_roll_round_and_nothing_else(answer, model, tmp_path):
    _, rows, _ = answer(write(tmp_path / "a.png"), *BOX_OPTION, "--roll-sign", "mat", "--rotation", "matrix")
    yaw, pitch, roll = expected(model)
    assert angles_in(rows[0]) == pytest.approx([yaw, pitch, -roll], abs=1e-3)
    matrix = [float(rows[0][name]) for name in predict.ROTATION_FIELDS["matrix"]]
    assert matrix == pytest.approx(rotation_matrix(np.radians([yaw, pitch, roll])).ravel(), abs=1e-5)


def test_the_quaternion_is_the_same_rotation(answer, model, tmp_path):
    _, rows, _ = answer(write(tmp_path / "a.png"), *BOX_OPTION, "--rotation", "quaternion")
    quaternion = [float(rows[0][name]) for name in ("qx", "qy", "qz", "qw")]
    turned = Rotation.from_quat(quaternion).as_matrix()
    assert turned == pytest.approx(rotation_matrix(np.radians(expected(model))), abs=1e-5)


def test_json_lines_hold_what_the_csv_holds(answer, tmp_path):
    picture, out = write(tmp_path / "ä.png"), tmp_path / "rows.jsonl"
    _, rows, _ = answer(picture, *BOX_OPTION)
    answer(picture, *BOX_OPTION, "--format", "jsonl", "--out", out)
    (line,) = out.read_text(encoding="utf-8").splitlines()
    row = json.loads(line)
    assert list(row) == list(rows[0])
    assert [row[axis] for axis in AXES] == angles_in(rows[0]) and row["source"] == str(picture)
    assert row["frame"] is None and row["size"] == 60


# --- Pictures of all sorts --------------------------------------------------------------------------------------------


def test_grey_sixteen_bit_and_transparent_pictures_give_the_answer_of_their_plain_form(answer, model, tmp_path):
    write(tmp_path / "deep.png", NOISE.astype(np.uint16) * 257)
    write(tmp_path / "grey.png", NOISE[..., 0])
    write(tmp_path / "transparent.png", np.dstack([NOISE, NOISE[..., 0]]))
    status, rows, _ = answer(tmp_path, *BOX_OPTION)
    found = {Path(row["source"]).stem: angles_in(row) for row in rows}
    assert status == 0
    assert found["deep"] == found["transparent"] == pytest.approx(expected(model), abs=1e-3)
    assert found["grey"] == pytest.approx(expected(model, np.repeat(NOISE[..., :1], 3, axis=2)), abs=1e-3)


def announcing(columns, rows):
    """A PNG that announces a size and holds next to nothing."""
    header = struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100)))]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_what_cannot_be_read_is_named_and_the_rest_of_the_folder_is_done(answer, tmp_path):
    good = [write(tmp_path / name) for name in ("a.png", "below/it/z.jpg")]
    bad = {name: tmp_path / name for name in ("cut.jpg", "empty.png", "huge.png", "one.png", "text.bmp", "vast.png")}
    write(bad["cut.jpg"]).write_bytes(good[1].read_bytes()[:300])
    bad["empty.png"].write_bytes(b"")
    bad["huge.png"].write_bytes(announcing(12000, 12000))
    bad["vast.png"].write_bytes(announcing(200000, 200000))
    bad["text.bmp"].write_text("not a picture")
    write(bad["one.png"], NOISE[:1, :1])
    (tmp_path / "notes.txt").write_text("left out by its name")
    status, rows, err = answer(tmp_path, *BOX_OPTION)
    found = {row["source"]: row for row in rows}
    assert status == 1 and set(found) == {*map(str, good), *map(str, bad.values())}
    assert all(found[str(path)]["status"] == "ok" for path in good)
    for path in bad.values():
        assert str(path) in found[str(path)]["status"] and not found[str(path)]["yaw"]
        assert f"error: {path}" in err
    assert "empty" in found[str(bad["empty.png"])]["status"]
    assert "announces" in found[str(bad["huge.png"])]["status"] and "announces" in found[str(bad["vast.png"])]["status"]
    assert "1 .txt" in err


def test_a_picture_without_a_face_has_a_row_that_says_so(answer, tmp_path):
    status, rows, err = answer(write(tmp_path / "blank.png", np.full((90, 90, 3), 128, np.uint8)))
    assert status == 1 and rows[0]["status"] == "no face" and not rows[0]["yaw"]
    assert f"{tmp_path / 'blank.png'}: no face" in err


@pytest.mark.parametrize("box", [(500, 0, 10), (0, -50, 50), (0, 0, 10**7)])
def test_a_box_that_does_not_fit_the_picture_is_an_error(answer, tmp_path, box):
    status, rows, _ = answer(write(tmp_path / "a.png"), "--box", *box)
    assert status == 1 and "does not fit this picture of 120 rows and 160 columns" in rows[0]["status"]


def test_globs_and_uppercase_names_are_found(answer, tmp_path):
    for name in ("a.png", "b.PNG", "c.txt"):
        (tmp_path / name).write_bytes(cv2.imencode(".png", NOISE)[1].tobytes())
    _, rows, _ = answer(tmp_path / "*.[pP]*", *BOX_OPTION)
    assert [Path(row["source"]).name for row in rows] == ["a.png", "b.PNG"]


# --- Lists of boxes ---------------------------------------------------------------------------------------------------


def test_a_list_gives_the_boxes_by_the_end_of_the_path(answer, model, tmp_path):
    write(tmp_path / "data/SET/a.png")
    write(tmp_path / "data/SET/b.png")
    write(tmp_path / "data/SET/c.png")
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("SET/a.png\t20 30 60 60 \r\n./SET/b.png\t\n")
    status, rows, _ = answer(tmp_path / "data", "--boxes", boxes)
    assert status == 1 and angles_in(rows[0]) == pytest.approx(expected(model), abs=1e-3)
    assert "has no box" in rows[1]["status"] and "not in the list" in rows[2]["status"]


def test_a_malformed_list_and_a_list_for_a_video_are_refused(answer, tmp_path):
    boxes, picture = tmp_path / "boxes.txt", write(tmp_path / "a.png")
    boxes.write_text("a.png\t1 2 3\n")
    status, _, err = answer(picture, "--boxes", boxes)
    assert status == 2 and "line 1: expected a box" in err
    video = write_video(tmp_path / "v.avi", 1)
    boxes.write_text("a.png\t1 2 3 3\n")
    status, _, err = answer(video, "--boxes", boxes)
    assert status == 2 and "--boxes is for pictures" in err


# --- Batches and order ------------------------------------------------------------------------------------------------


def test_the_batch_size_changes_no_answer(answer, tmp_path):
    for number in range(5):
        write(tmp_path / f"{number}.png", np.roll(NOISE, 9 * number, axis=1))
    first, second = (answer(tmp_path, *BOX_OPTION, "--batch-size", size)[1] for size in (1, 3))
    assert [row["source"] for row in first] == [row["source"] for row in second]
    for one, other in zip(first, second, strict=True):
        assert angles_in(one) == pytest.approx(angles_in(other), abs=1e-3)
    assert len({row["yaw"] for row in first}) == 5


def test_no_more_frames_are_read_ahead_than_a_batch_holds(model):
    read = 0

    def endless():
        nonlocal read
        source = sources.Source("camera", Path("camera.mp4"), "camera")
        while True:
            yield sources.Frame(source, read, NOISE)
            read += 1

    frames = predict.predict_frames(model, endless(), lambda frame: [], 0.2, batch_size=4)
    for number in range(1, 30):
        next(frames)
        assert read < number + 4


def test_many_faces_of_one_picture_each_get_a_row(model):
    source = sources.Source("crowd.png", Path("crowd.png"), "picture")
    boxes = [(row, 20, 40) for row in range(0, 70, 10)]
    (frame,) = predict.predict_frames(model, [sources.Frame(source, None, NOISE)], lambda _: boxes, 0.2, batch_size=3)
    rows = predict.rows_of(frame)
    assert [row["row"] for row in rows] == list(range(0, 70, 10)) and [row["face"] for row in rows] == list(range(7))
    assert angles_in(rows[6]) == pytest.approx(expected(model, box=boxes[6]), abs=1e-3)


def test_a_stop_by_hand_keeps_what_was_done(answer, tmp_path, monkeypatch):
    def stopped(sources):
        yield sources.Frame(sources[0], None, NOISE)
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "read_frames", stopped)
    _, rows, err = answer(write(tmp_path / "a.png"), *BOX_OPTION, "--batch-size", 1)
    assert len(rows) == 1 and "stopped" in err


# --- Videos -----------------------------------------------------------------------------------------------------------


def test_a_video_gives_a_row_for_every_frame_and_a_video_of_as_many(answer, tmp_path):
    video = write_video(tmp_path / "clip.avi", frames=12)
    status, rows, _ = answer(video, *BOX_OPTION, "--drawn", tmp_path / "drawn", "--batch-size", 5)
    assert status == 0 and [int(row["frame"]) for row in rows] == list(range(12))
    drawn = frames_of(tmp_path / "drawn/clip.mp4")
    assert len(drawn) == 12 and drawn[0].shape == (120, 160, 3)
    assert len({row["yaw"] for row in rows}) == 12


def test_frames_with_odd_sides_and_without_a_rate_still_make_a_video(tmp_path):
    copies, source = predict.DrawnCopies(tmp_path, "axes"), sources.Source("0", Path("camera0.mp4"), "camera")
    for number, side in enumerate((121, 121, 90)):  # a VideoWriter cuts odd sides and drops frames of another size
        copies.write(sources.Frame(source, number, np.zeros((side, side, 3), np.uint8), rate=0.0))
    copies.close()
    assert [frame.shape for frame in frames_of(tmp_path / "camera0.mp4")] == [(122, 122, 3)] * 3


def test_a_truncated_video_gives_what_can_be_read_and_says_so(answer, tmp_path):
    video = write_video(tmp_path / "clip.avi")
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    readable = len(frames_of(video))
    status, rows, err = answer(video, *BOX_OPTION, "--drawn", tmp_path / "drawn")
    assert 0 < readable < 11
    assert status == 1 and [row["status"] for row in rows[:-1]] == ["ok"] * readable
    assert (
        f"{video}: {readable} frames could be read of 12 announced" in rows[-1]["status"] and rows[-1]["status"] in err
    )
    assert len(frames_of(tmp_path / "drawn/clip.mp4")) == readable


def test_what_is_no_video_is_named(answer, tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"nothing of the kind")
    status, rows, _ = answer(tmp_path / "clip.mp4", *BOX_OPTION)
    assert status == 1 and f"{tmp_path / 'clip.mp4'}: the video cannot be opened" in rows[0]["status"]


def test_frames_without_a_face_are_rows_and_one_line_of_text(answer, tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 96))
    for _ in range(5):
        writer.write(np.zeros((96, 96, 3), np.uint8))
    writer.release()
    status, rows, err = answer(tmp_path / "v.avi")
    assert status == 1 and [row["status"] for row in rows] == ["no face"] * 5
    assert f"{tmp_path / 'v.avi'}: no face in 5 frames" in err


# --- Drawn copies -----------------------------------------------------------------------------------------------------


def test_drawn_copies_keep_size_and_place_and_change_the_picture(answer, tmp_path):
    for name in ("in/a/x.png", "in/b/x.png"):
        write(tmp_path / name)
    answer(tmp_path / "in", *BOX_OPTION, "--drawn", tmp_path / "out", "--style", "axes")
    for name in ("a/x.png", "b/x.png"):
        drawn = cv2.imread(str(tmp_path / "out" / name))
        assert drawn.shape == NOISE.shape and (drawn != NOISE).any()
        assert (cv2.imread(str(tmp_path / "in" / name)) == NOISE).all()


def test_copies_of_pictures_with_one_name_do_not_replace_each_other(answer, tmp_path):
    pictures = [write(tmp_path / folder / "x.png") for folder in "ab"]
    answer(*pictures, *BOX_OPTION, "--drawn", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["x-2.png", "x.png"]


def test_a_drawn_copy_never_replaces_the_picture(answer, tmp_path):
    write(tmp_path / "a.png")
    status, _, err = answer(tmp_path, *BOX_OPTION, "--drawn", tmp_path)
    assert status == 2 and "would be overwritten" in err
    assert (cv2.imread(str(tmp_path / "a.png")) == NOISE).all()


# --- The script -------------------------------------------------------------------------------------------------------


def test_help_and_missing_files_come_before_tensorflow_is_loaded(tmp_path):
    code = """
import sys, predict
for arguments in (["--help"], ["none.png", "--weights", "w.keras"], [".", "--weights", "w.keras"]):
    try:
        print(predict.main(arguments))
    except SystemExit as stop:
        print(stop.code)
assert not {"tensorflow", "keras", "matplotlib"} & set(sys.modules)
"""
    write(tmp_path / "a.png")
    places = {"cwd": tmp_path, "env": {"PYTHONPATH": str(ROOT)}}
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, **places)
    assert [line for line in ran.stdout.splitlines() if line.isdecimal()] == ["0", "2", "2"]
    assert "error: none.png: no such file" in ran.stderr and "error: w.keras: no such file" in ran.stderr


def test_the_script_reads_a_network_from_its_file(weights, model, tmp_path):
    picture = write(tmp_path / "a.png")
    command = [sys.executable, ROOT / "predict.py", picture, "--weights", weights, *BOX_OPTION]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    (row,) = csv.DictReader(io.StringIO(ran.stdout))
    assert angles_in(row) == pytest.approx(expected(model), abs=1e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either pictures"),
        (("a.png", "--export", "m.onnx"), "give either pictures"),
        (("a.png", "--detector", "yunet"), "belong together"),
        (("a.png", "--box", "1", "2", "0"), "at least 1"),
        (("a.png", "--margin", "-1"), "must lie in 0...5"),
        (("a.png", "--singles"), "belongs to --explain"),
        (("a.png", "--cell", "7", "0"), "from 0 to 6"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        predict.main([*arguments, "--weights", "w.keras"])
    assert stop.value.code == 2 and message in capsys.readouterr().err
