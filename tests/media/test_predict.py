"""An image, folder or video gives one right row per face; what cannot be read is named and the rest still done."""

import csv
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.images import NOISE, noisy_video, read_rgb, read_video, write_image, write_video
from scipy.spatial.transform import Rotation

import predict
from data_loaders import crop
from rafa.media.detectors import FoundFace
from rafa.media.sources import Frame
from rafa.media.tracking import OneEuro
from rafa.net.explain import RULES
from rafa.pose import AXES, rotation_matrix
from rafa.score.predictions import Predictions, read_predictions
from rafa.script import InputError

ROOT = Path(predict.__file__).parent
BOX = (20, 30, 60)
BOX_OPTION = ("--box", *BOX)
RULE = list(RULES)[-1]  # not the default
BLANK = np.full((90, 90, 3), 128, np.uint8)


@pytest.fixture
def run(loaded, weights, capsys):
    """The script in this process: arguments → (exit status, rows, stderr)."""

    def script(*arguments):
        status = predict.main([*map(str, arguments), "--weights", weights])
        out, err = capsys.readouterr()
        return status, list(csv.DictReader(io.StringIO(out))), err

    return script


def angles_in(row):
    return [float(row[axis]) for axis in AXES]


def expected(model, image=NOISE, box=BOX, margin=0.2):
    """Yaw, pitch and roll in degrees, by Keras alone."""
    answers = model.predict_on_batch(crop(image, *box, margin)[None])
    return np.degrees([answers[axis][0, 0] for axis in AXES])


# --- Predicting -------------------------------------------------------------------------------------------------------


def test_a_box_and_a_margin_give_the_network_s_angles(run, model, tmp_path):
    image = write_image(tmp_path / "a.png")
    status, (row,), err = run(image, *BOX_OPTION)
    assert status == 0 and err.endswith("faces: 1, images without a face: 0\n")
    assert angles_in(row) == pytest.approx(expected(model), abs=1e-3)
    assert (row["row"], row["column"], row["size"], row["frame"], row["status"]) == ("20", "30", "60", "", "ok")
    _, (wider,), _ = run(image, *BOX_OPTION, "--margin", 0.5)
    assert angles_in(wider) == pytest.approx(expected(model, margin=0.5), abs=1e-3)
    assert angles_in(wider) != pytest.approx(angles_in(row), abs=1e-2)


def test_roll_sign_and_rotation_reach_the_rows(run, model, tmp_path):
    _, (row,), _ = run(write_image(tmp_path / "a.png"), *BOX_OPTION, "--roll-sign", "mat", "--rotation", "quaternion")
    yaw, pitch, roll = expected(model)
    assert angles_in(row) == pytest.approx([yaw, pitch, -roll], abs=1e-3)
    turned = Rotation.from_quat([float(row[name]) for name in ("qx", "qy", "qz", "qw")]).as_matrix()
    assert turned == pytest.approx(rotation_matrix(np.radians([yaw, pitch, roll])), abs=1e-5)


def test_the_batch_size_changes_no_angle_and_no_order(run, model, tmp_path):
    images = [np.roll(NOISE, 9 * number, axis=1) for number in range(5)]
    for number, image in enumerate(images):
        write_image(tmp_path / f"{number}.png", image)
    for size in (1, 3):
        _, rows, _ = run(tmp_path, *BOX_OPTION, "--batch-size", size)
        assert [Path(row["source"]).name for row in rows] == [f"{number}.png" for number in range(5)]
        for row, image in zip(rows, images, strict=True):
            assert angles_in(row) == pytest.approx(expected(model, image), abs=1e-3)


# --- The script: what it reads ----------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_named_and_the_rest_of_a_folder_is_done(run, tmp_path):
    for name in ("a.png", "below/z.jpg"):
        write_image(tmp_path / name)
    write_image(tmp_path / "one.png", NOISE[:1, :1])
    (tmp_path / "bad.bmp").write_text("not an image")
    (tmp_path / "notes.txt").write_text("-")
    status, rows, err = run(tmp_path, *BOX_OPTION)
    assert status == predict.WITHOUT_FACE
    found = {str(Path(row["source"]).relative_to(tmp_path)): row["status"] for row in rows}
    assert list(found) == ["a.png", "bad.bmp", "below/z.jpg", "one.png"]
    assert found["a.png"] == found["below/z.jpg"] == "ok"
    for name, problem in (("bad.bmp", "not an image"), ("one.png", "box of over 4 times its image")):
        assert found[name].startswith(problem) and f"{tmp_path / name}: {problem}" in err
    assert err.endswith("faces: 2, images without a face: 2\n")


def test_a_detector_finds_the_faces_unless_boxes_are_given(run, tmp_path, monkeypatch):
    image = write_image(tmp_path / "a.png")
    for kind, options in (("LibFaceDetection", ()), ("YuNetDetector", ("--detector-model", "yunet.onnx"))):
        made = []

        class Found:
            def __init__(self, *given, least="its own", made=made):
                made.append((*given, least))

            def __call__(self, image):
                return [FoundFace((1, 2, 50), 0.75)]

        monkeypatch.setattr(predict, kind, Found)
        _, (row,), _ = run(image, *options, "--min-confidence", 0.3)
        run(image, *options)
        assert (row["row"], row["column"], row["size"], row["confidence"]) == ("1", "2", "50", "0.75")
        assert made == [(*options[1:], 0.3), (*options[1:], "its own")]


def test_openface_s_rows_are_of_one_video(run, tmp_path):
    video, out = noisy_video(tmp_path / "v.avi", 2), tmp_path / "rows.csv"
    assert run(video, *BOX_OPTION, "--format", "openface", "--out", out)[0] == 0
    assert [row["frame"] for row in csv.DictReader(out.open())] == ["1", "2"]
    with pytest.raises(InputError, match="--format openface"):
        run(video, video, *BOX_OPTION, "--format", "openface")


def test_an_image_without_a_face_is_named(run, tmp_path):
    image = write_image(tmp_path / "blank.png", BLANK)
    status, (row,), err = run(image)
    assert status == predict.WITHOUT_FACE and row["status"] == "no face" and row["yaw"] == ""
    assert err.splitlines() == [f"{image}: no face", "faces: 0, images without a face: 1"]


def test_a_list_gives_the_boxes(run, model, tmp_path):
    for name in "abc":
        write_image(tmp_path / f"data/SET/{name}.png")
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("SET/a.png\t20 30 60 60 \r\n./SET/b.png\t\n")
    status, rows, _ = run(tmp_path / "data", "--boxes", boxes)
    assert status == predict.WITHOUT_FACE and angles_in(rows[0]) == pytest.approx(expected(model), abs=1e-3)
    assert "has no box" in rows[1]["status"] and "no row of" in rows[2]["status"]


def test_what_was_predicted_in_listed_boxes_can_be_scored_as_it_is(run, model, tmp_path):
    for name in "ab":
        write_image(tmp_path / f"data/SET/{name}.png")
    (tmp_path / "boxes.txt").write_text("SET\\a.png\t20 30 60 60\n.\\SET\\b.png\t20 30 60 60\n")
    run(tmp_path / "data", "--boxes", tmp_path / "boxes.txt", "--out", tmp_path / "p.csv")
    truth = Predictions(np.array(["SET/b.png", "SET/a.png"]), np.zeros((2, 3)), np.zeros((2, 3)))
    found, _ = read_predictions(tmp_path / "p.csv", targets=truth)
    assert found.path.tolist() == ["SET/a.png", "SET/b.png"]
    assert found.predicted == pytest.approx(np.array([expected(model)] * 2), abs=1e-3)


def test_a_malformed_list_and_a_list_for_a_video_are_refused(run, tmp_path):
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("a.png\t1 2 3\n")
    with pytest.raises(InputError, match="line 1: "):
        run(write_image(tmp_path / "a.png"), "--boxes", boxes)
    with pytest.raises(InputError, match=r"v\.avi: --boxes is for images"):
        run(noisy_video(tmp_path / "v.avi", 1), "--boxes", boxes)


def test_a_video_gives_a_row_and_a_drawn_frame_for_every_frame(run, model, tmp_path):
    video = noisy_video(tmp_path / "clip.avi", frames=12)
    status, rows, err = run(video, *BOX_OPTION, "--drawn", tmp_path / "drawn", "--batch-size", 5)
    assert status == 0 and [row["frame"] for row in rows] == [str(number) for number in range(12)]
    for row, image in zip(rows, read_video(video), strict=True):
        assert angles_in(row) == pytest.approx(expected(model, image), abs=2e-3)
    assert len(read_video(tmp_path / "drawn/clip.webm")) == 12
    assert err.splitlines()[-1] == "faces: 12, frames without a face: 0"


def test_smoothed_angles_of_a_video_follow_those_of_its_frames(run, tmp_path):
    video = noisy_video(tmp_path / "v.avi", 4)
    _, plain, _ = run(video, *BOX_OPTION)
    _, smooth, _ = run(video, *BOX_OPTION, "--smooth")
    assert [(row["seconds"], row["face"]) for row in smooth] == [(f"{number / 10}", "0") for number in range(4)]
    filtered = OneEuro()
    for before, after in zip(plain, smooth, strict=True):
        expected = np.degrees(filtered(np.radians(angles_in(before)), float(before["seconds"])))
        assert angles_in(after) == pytest.approx(expected, abs=1e-3)
    with pytest.raises(InputError, match="--smooth is for videos, cameras and streams"):
        run(write_image(tmp_path / "a.png"), "--smooth")


def test_frames_without_a_face_are_rows_and_one_line_of_text(run, tmp_path):
    video = write_video(tmp_path / "v.avi", [BLANK] * 5)
    status, rows, err = run(video)
    assert status == predict.WITHOUT_FACE and [row["status"] for row in rows] == ["no face"] * 5
    assert err.splitlines() == [f"{video}: no face (5 frames)", "faces: 0, frames without a face: 5"]


@pytest.mark.parametrize("path", ["v.avi", "rtsp://camera/1"])
def test_a_stop_keeps_what_was_done_and_is_the_end_of_a_stream_alone(run, tmp_path, monkeypatch, path):
    def stopped(sources):
        yield Frame(sources[0], 0, NOISE, seconds=0.0)
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "read_frames", stopped)
    out, endless = tmp_path / "rows.csv", "://" in path
    video = path if endless else noisy_video(tmp_path / path, 3)
    options = (*BOX_OPTION, "--batch-size", 1, "--out", out, "--drawn", tmp_path / "drawn")
    if endless:
        assert run(video, *options)[0] == 0
    else:
        with pytest.raises(KeyboardInterrupt, match="is written"):
            run(video, *options)
    assert len(out.read_text().splitlines()) == 2
    (copy,) = (tmp_path / "drawn").iterdir()
    assert len(read_video(copy)) == 1


def test_progress_is_shown_with_a_total_where_it_is_known_and_not_among_rows_on_a_terminal(run, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr(predict, "progress", lambda frames, *what, **_: shown.append(what) or frames)
    image, video = write_image(tmp_path / "a.png"), noisy_video(tmp_path / "v.avi", 2)
    run(image, image, *BOX_OPTION)
    run(image, video, *BOX_OPTION)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    run(image, *BOX_OPTION)
    run(image, *BOX_OPTION, "--out", tmp_path / "rows.csv")
    assert shown == [(2, "predicting", "image"), (None, "predicting", "frame"), (1, "predicting", "image")]


# --- The script: what it writes ---------------------------------------------------------------------------------------


def test_drawn_copies_have_the_folder_s_structure_and_keep_what_is_not_drawn_on(run, tmp_path):
    image = np.tile(np.uint8([250, 20, 10]), (300, 300, 1))
    for name in ("in/a/x.png", "in/b/x.png"):
        write_image(tmp_path / name, image)
    run(tmp_path / "in", "--box", 100, 100, 100, "--drawn", tmp_path / "out")
    for name in ("a/x.png", "b/x.png"):
        drawn = read_rgb(tmp_path / "out" / name)
        assert (drawn[250:] == image[250:]).all() and (drawn[100:200] != image[100:200]).any()
        assert (read_rgb(tmp_path / "in" / name) == image).all()


def test_the_style_reaches_the_drawn_copies(run, tmp_path):
    image, drawn = write_image(tmp_path / "a.png"), {}
    for style in ("axes", "cube", "both"):
        run(image, *BOX_OPTION, "--drawn", tmp_path / style, "--style", style)
        drawn[style] = (tmp_path / style / "a.png").read_bytes()
    assert len(set(drawn.values())) == 3
    run(image, *BOX_OPTION, "--drawn", tmp_path / "default")
    assert (tmp_path / "default/a.png").read_bytes() == drawn["both"]


def test_no_file_that_is_read_is_overwritten(run, tmp_path, monkeypatch):
    first, second = write_image(tmp_path / "one/a.png"), write_image(tmp_path / "two/a.png")
    boxes = tmp_path / "boxes.txt"
    boxes.write_text("a.png\t20 30 60 60\n")
    monkeypatch.chdir(tmp_path)
    before = [path.read_bytes() for path in (first, second, boxes)]
    film = noisy_video(tmp_path / "film.avi", 1).rename(tmp_path / "film.webm")
    with pytest.raises(InputError, match="overwritten"):
        run(film, *BOX_OPTION, "--drawn", tmp_path)
    with pytest.raises(InputError, match="overwritten"):
        predict.main([str(first), *map(str, BOX_OPTION), "--weights", str(second), "--out", str(second)])
    for options in (
        (*BOX_OPTION, "--drawn", tmp_path / "two"),  # where the first one's copy would come to lie
        (*BOX_OPTION, "--out", "two/../one/a.png"),
        ("--boxes", boxes, "--out", "boxes.txt"),
    ):
        with pytest.raises(InputError, match="overwritten"):
            run(first, second, *options)
    assert [path.read_bytes() for path in (first, second, boxes)] == before


def test_explanations_take_the_predicted_angles_and_their_options(run, tmp_path, monkeypatch):
    made = []

    class Recorder:
        def __init__(self, explain, *options):
            made.append(options)

        def write(self, frame):
            made.extend(np.degrees(face.angles) for face in frame.faces)

    monkeypatch.setattr(predict, "Explanations", Recorder)
    _, (row,), _ = run(write_image(tmp_path / "a.png"), *BOX_OPTION, "--explain", "maps", "--cam", RULE)
    assert made[0] == ("maps", RULE) and made[1] == pytest.approx(angles_in(row), abs=1e-3)


def test_the_line_about_the_own_weights_says_how_they_were_made_and_their_error(monkeypatch):
    made = "the drawing was chosen by photographs, 394 of AFLW2000 among them; "
    error = r"mean error \d.\d° \[.*\] on 394 photographs of AFLW2000, with 6 views$"
    assert re.search(made + error, predict.described())
    monkeypatch.setattr(predict, "sha256", lambda path: "of another file")
    assert re.search(made + "not measured$", predict.described())


def test_an_export_goes_to_the_file_that_was_named(weights, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("rafa.net.export.export_checked", lambda *arguments: asked.append(arguments))
    assert predict.main(["--weights", weights, "--export", "m.onnx"]) == 0 and asked == [(weights, "m.onnx", None)]


def test_the_views_are_those_asked_for_else_six_with_the_own_weights_or_for_the_spread(run, weights, tmp_path):
    image = write_image(tmp_path / "a.png")
    asked = {(): 1, ("--views", "6"): 6, ("--uncertainty",): 6, ("--uncertainty", "--views", "6"): 6}
    answers = {options: angles_in(run(image, *BOX_OPTION, *options)[1][0]) for options in asked}
    for options, views in asked.items():
        (face,) = predict.PoseEstimator(weights, views, find=lambda path, image: [FoundFace(BOX)])(image)
        assert answers[options] == pytest.approx(np.degrees(face.angles), abs=1e-2)
    assert float(run(image, *BOX_OPTION, "--uncertainty")[1][0]["yaw_spread"]) > 0
    assert predict.PoseEstimator().views == 6 == predict.PoseEstimator("synthetic").views


# --- The script as a process ------------------------------------------------------------------------------------------


def test_help_and_bad_input_need_no_tensorflow(tmp_path, weights):
    code = """
import sys, predict
from rafa.script import run_script
sys.argv = ["predict.py", *sys.argv[1:]]
try:
    run_script(predict.main)
finally:
    print("tensorflow" in sys.modules or "matplotlib" in sys.modules, file=sys.stderr)
"""
    image = write_image(tmp_path / "a.png")
    for arguments, status, message in (
        (["--help"], 0, "False"),
        (["none.png", "--weights", weights], 2, "error: none.png: no such file, folder or camera"),
        ([str(image), "--weights", "w.keras"], 2, "error: w.keras: no such file"),
    ):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == status and message in done.stderr and done.stderr.endswith("False\n")


def test_the_script_reads_a_network_from_its_file(weights, model, tmp_path):
    image = write_image(tmp_path / "a.png")
    command = [sys.executable, ROOT / "predict.py", image, "--weights", weights, *map(str, BOX_OPTION)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    assert angles_in(row) == pytest.approx(expected(model), abs=1e-2)
    assert done.stderr == "faces: 1, images without a face: 0\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "--export"),
        ("a.png --export m.onnx", "--export"),
        ("--export m.onnx --drawn d --roll-sign mat", "--export has no use for --drawn, --roll-sign"),
        ("a.png --format openface --roll-sign mat", "--roll-sign has an effect only with"),
        ("a.png --format openface --uncertainty", "--uncertainty has an effect only with"),
        ("a.png --box 1 2 0", "--box"),
        ("a.png --box 1 2 3 --boxes list.txt", "--boxes: not allowed with"),
        ("a.png --margin -1", "--margin"),
        ("a.png --batch-size 17", "--batch-size"),
        ("a.png --uncertainty --views 1", "--views"),
        (f"a.png --cam {RULE}", "--cam has an effect only with --explain"),
        ("a.png --style cube", "--style has an effect only with --drawn"),
        ("a.png --box 1 2 3 --min-confidence 0.9", "--min-confidence has an effect only with"),
        ("a.png --box 1 2 3 --detector-model m.onnx", "--detector-model: not allowed with"),
        ("a.png --min-confidence 9", "--min-confidence"),
        ("a.png --format openface --rotation matrix", "--rotation has an effect only with"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        predict.main([*arguments.split(), "--weights", "w.keras"])
    assert stop.value.code == 2 and words in capsys.readouterr().err.splitlines()[-1]
