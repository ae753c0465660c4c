"""Head pose in pictures and videos: one row per face with yaw, pitch and roll in degrees.

    python predict.py photo.jpg --weights FILE --box 80 120 200
    python predict.py folder clip.mp4 --weights FILE --out poses.csv --drawn drawn
    python predict.py photo.jpg --weights FILE --explain why
    python predict.py --weights FILE --export model.onnx

Yaw > 0: the nose points to the left of the picture.  Pitch > 0: looks up.  Roll > 0: tilts counter-clockwise in the
picture.  The rows go to stdout or --out, everything else that is said to stderr.

Exit status: 0 if every picture and frame had a face, 1 if one had none or could not be read, 2 if nothing was done.
"""

import argparse
import csv
import json
import os
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from data_loaders import AXES, rotation_matrix
from util import figures
from util.detectors import SMALLEST_FACE, HaarDetector, YuNetDetector
from util.errors import InputError
from util.explain import RULES, Explanations
from util.sources import ListedBoxes, cut_faces, find_sources, read_frames

PENDING_PIXELS = 2**26  # of the frames that wait for a full batch


# --- Predicting -------------------------------------------------------------------------------------------------------


def predict_frames(model, frames, find_boxes, margin, batch_size):
    """Yield the frames in order with their faces and angles; batches of faces go across frames.

    No more frames wait for a full batch than `batch_size`, and no more pixels than PENDING_PIXELS (or one picture).
    """
    waiting = []
    for frame in frames:
        cut_faces(frame, find_boxes, margin)
        waiting.append(frame)
        pixels = sum(frame.picture.size // 3 for frame in waiting if frame.picture is not None)
        faces = sum(len(frame.faces) for frame in waiting)
        if max(faces, len(waiting)) >= batch_size or pixels >= PENDING_PIXELS:
            _answer(model, waiting, batch_size)
            yield from waiting
            waiting = []
    _answer(model, waiting, batch_size)
    yield from waiting


def _answer(model, frames, batch_size):
    faces = [face for frame in frames for face in frame.faces]
    for start in range(0, len(faces), batch_size):
        batch = faces[start : start + batch_size]
        answers = model.predict_on_batch(np.stack([face.crop for face in batch]))
        for index, face in enumerate(batch):
            face.angles = np.array([answers[axis][index, 0] for axis in AXES])


# --- Rows -------------------------------------------------------------------------------------------------------------

ROTATION_FIELDS = {
    "none": (),
    "matrix": tuple(f"r{row}{column}" for row in (1, 2, 3) for column in (1, 2, 3)),
    "quaternion": ("qx", "qy", "qz", "qw"),
}


def row_fields(rotation):
    """The names of a row's fields, in order."""
    return ("source", "frame", "face", "row", "column", "size", *AXES, *ROTATION_FIELDS[rotation], "status")


def rows_of(frame, roll_sign="list", rotation="none"):
    """One dict per face with the keys of `row_fields`; for a frame without any, one whose status says why.

    The rotation is `data_loaders.rotation_matrix`, in image axes, whatever sign is asked for the roll.
    """
    rows = []
    for number, face in enumerate(frame.faces):
        degrees = dict(zip(AXES, np.degrees(face.angles), strict=True))
        degrees["roll"] *= -1 if roll_sign == "mat" else 1
        values = (
            frame.source.path,
            frame.number,
            number,
            *face.box,
            *(round(float(degrees[axis]), 4) for axis in AXES),
        )
        values += tuple(round(float(value), 6) for value in _rotation(face.angles, rotation))
        rows.append(dict(zip(row_fields(rotation), (*values, "ok"), strict=True)))
    if not rows:
        rows.append(dict.fromkeys(row_fields(rotation)))
        rows[0] |= {"source": frame.source.path, "frame": frame.number, "status": frame.problem}
    return rows


def _rotation(angles, rotation):
    matrix = rotation_matrix(angles)
    if rotation == "matrix":
        return matrix.ravel()
    if rotation == "quaternion":
        from scipy.spatial.transform import Rotation

        return Rotation.from_matrix(matrix).as_quat(canonical=True)
    return ()


class RowWriter:
    """Writes rows to a stream as CSV with a header, or as JSON lines."""

    def __init__(self, stream, form, rotation):
        self.stream, self.csv = stream, None
        if form == "csv":
            self.csv = csv.DictWriter(stream, row_fields(rotation), lineterminator="\n")
            self.csv.writeheader()

    def write(self, rows):
        for row in rows:
            if self.csv:
                self.csv.writerow(row)
            else:
                self.stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.stream.flush()


# --- Drawn copies -----------------------------------------------------------------------------------------------------


class DrawnCopies:
    """Writes every picture, and every frame of a video, with the poses drawn on it, into a folder."""

    def __init__(self, folder, style):
        self.folder, self.style, self.copy, self.video, self.shape = Path(folder), style, None, None, None

    def write(self, frame):
        if frame.picture is None:
            return
        drawn = frame.picture
        for face in frame.faces:
            drawn = figures.draw_pose(drawn, face.box, face.angles, self.style)
        drawn, target = np.ascontiguousarray(drawn[..., ::-1]), self.folder / frame.source.copy
        if frame.number is None:
            _write_picture(target, drawn)
        else:
            self._write_frame(target, drawn, frame.rate)

    def _write_frame(self, target, drawn, rate):
        drawn = cv2.copyMakeBorder(drawn, 0, len(drawn) % 2, 0, drawn.shape[1] % 2, cv2.BORDER_REPLICATE)  # mp4: even
        if target != self.copy:
            self.close()
            target.parent.mkdir(parents=True, exist_ok=True)
            rate = rate if 0 < rate < 1000 else 25.0  # cameras often do not know theirs
            self.video = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*"mp4v"), rate, drawn.shape[1::-1])
            if not self.video.isOpened():
                raise InputError(f"{target}: OpenCV cannot write a video there; check the folder and the free space")
            self.copy, self.shape = target, drawn.shape
        if drawn.shape != self.shape:  # a VideoWriter drops such frames without a word
            drawn = cv2.resize(drawn, self.shape[1::-1])
        self.video.write(drawn)

    def close(self):
        if self.video is not None:
            self.video.release()


def _write_picture(target, picture):
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        encoded = cv2.imencode(target.suffix, picture)[1]
    except cv2.error as error:
        raise InputError(f"{target}: OpenCV cannot write this picture: {error}") from error
    target.write_bytes(encoded.tobytes())


# --- The script -------------------------------------------------------------------------------------------------------


def say(text):
    print(text, file=sys.stderr)


class Progress:
    """Counts, and on a terminal a line that says how far it is."""

    def __init__(self, sources):
        self.total = None if any(source.kind != "picture" for source in sources) else len(sources)
        self.frames = self.faces = self.without = 0
        self.problems = Counter()
        self.start = self.shown = time.monotonic()

    def count(self, frame):
        self.frames += frame.picture is not None or frame.number is None
        self.faces += len(frame.faces)
        if not frame.faces:
            self.without += 1
            if frame.number is None:
                problem = (
                    frame.problem if frame.source.path in frame.problem else f"{frame.source.path}: {frame.problem}"
                )
                say(("error: " if frame.problem != "no face" else "") + problem)
            else:
                self.problems[f"{frame.source.path}: {frame.problem}"] += 1
        if sys.stderr.isatty() and time.monotonic() - self.shown > 0.2:
            self.shown = time.monotonic()
            print(f"\r{self._so_far()}", end=" ", file=sys.stderr, flush=True)

    def _so_far(self):
        rate = self.frames / max(time.monotonic() - self.start, 1e-9)
        total = f" of {self.total:,}" if self.total else ""
        return f"{self.frames:,}{total} frames, {self.faces:,} faces, {rate:.1f} frames/s"

    def finish(self):
        if sys.stderr.isatty():
            say("")
        for problem, frames in self.problems.items():
            say(f"{problem} in {frames:,} frames")
        say(f"{self._so_far()}, {self.without:,} without a face")


def parse_options(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = "pictures, folders (with all below them), globs, videos, camera numbers (Ctrl-C ends a camera)"
    parser.add_argument("paths", nargs="*", metavar="PATH", help=what)
    parser.add_argument("--weights", required=True, metavar="FILE", help="the network: .keras or .weights.h5")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="faces, and frames that wait (16)")
    boxes = parser.add_argument_group("which part of the picture", "the Haar detector, unless a box is given")
    one = boxes.add_mutually_exclusive_group()
    one.add_argument("--box", nargs=3, type=int, metavar=("ROW", "COLUMN", "SIZE"), help="square box, in pixels")
    one.add_argument(
        "--boxes", metavar="LIST", help="list of boxes in the published format: path, row column size size"
    )
    one.add_argument("--detector", choices=("haar", "yunet"), help="find faces with OpenCV (haar)")
    boxes.add_argument("--detector-model", metavar="FILE.onnx", help="the model of the detector yunet")
    help_text = f"as a share of the picture's shorter side, for the detector haar ({SMALLEST_FACE})"
    boxes.add_argument("--smallest-face", type=float, default=SMALLEST_FACE, metavar="SHARE", help=help_text)
    help_text = "γ: the box grows by this share on each side (0.2)"
    boxes.add_argument("--margin", type=float, default=0.2, help=help_text)
    rows = parser.add_argument_group("rows")
    rows.add_argument("--format", choices=("csv", "jsonl"), default="csv", help="(csv)")
    rows.add_argument("--out", metavar="FILE", help="write the rows here (stdout)")
    help_text = "sign of the roll in the rows: of the published lists, or of the .mat files, its negative (list)"
    rows.add_argument("--roll-sign", choices=("list", "mat"), default="list", help=help_text)
    help_text = "of the head, in image axes (x right, y down, z to the viewer): nose = R (0, 0, 1) (none)"
    rows.add_argument("--rotation", choices=tuple(ROTATION_FIELDS), default="none", help=help_text)
    pictures = parser.add_argument_group("pictures, always in the signs of the lists")
    pictures.add_argument("--drawn", metavar="DIR", help="write copies with the poses drawn on them")
    pictures.add_argument("--style", choices=figures.STYLES, default="both", help="of the drawn poses (both)")
    pictures.add_argument("--explain", metavar="DIR", help="write for each face Grad-CAM and attention of each axis")
    help_text = "the cell of the 7 × 7 map whose self-attention is shown, from 0 (3 3)"
    pictures.add_argument("--cell", nargs=2, type=int, default=(3, 3), metavar=("ROW", "COLUMN"), help=help_text)
    help_text = "of Grad-CAM, see doc/explanations.md (local)"
    pictures.add_argument("--cam", choices=tuple(RULES), default="local", help=help_text)
    pictures.add_argument("--singles", action="store_true", help="with --explain: also every picture by itself")
    export = parser.add_argument_group("export", "instead of predicting")
    help_text = "write the network as ONNX, LiteRT or (a folder) SavedModel, and check its answers"
    export.add_argument("--export", metavar="FILE.onnx|FILE.tflite|DIR", help=help_text)
    options = parser.parse_args(arguments)
    check_options(parser, options)
    return options


def check_options(parser, options):
    if bool(options.paths) == bool(options.export):
        parser.error("give either pictures, folders or videos, or --export")
    if (options.detector == "yunet") != bool(options.detector_model):
        parser.error("--detector yunet and --detector-model FILE.onnx belong together")
    if options.singles and not options.explain:
        parser.error("--singles belongs to --explain")
    for name, low, high in (("batch_size", 1, 4096), ("margin", 0, 5), ("smallest_face", 0.001, 1)):
        if not low <= getattr(options, name) <= high:
            parser.error(f"--{name.replace('_', '-')} must lie in {low:g}...{high:g}, not {getattr(options, name):g}")
    if options.box and options.box[2] < 1:
        parser.error(f"the size of --box must be at least 1, not {options.box[2]}")
    if not all(0 <= number <= 6 for number in options.cell):
        parser.error(f"--cell takes a row and a column from 0 to 6, not {options.cell[0]} {options.cell[1]}")


def box_finder(options):
    """A function Frame → list of boxes (row, column, size), by the options."""
    if options.box:
        return lambda frame: [tuple(options.box)]
    if options.boxes:
        return ListedBoxes(options.boxes)
    yunet = options.detector == "yunet"
    detector = YuNetDetector(options.detector_model) if yunet else HaarDetector(options.smallest_face)
    return lambda frame: detector(frame.picture)


def check_files(options, sources):
    """Say what is missing or would be overwritten, before anything heavy is loaded."""
    if not Path(options.weights).is_file():
        raise InputError(f"{options.weights}: no such file; --weights takes a .keras or .weights.h5 file")
    if options.boxes and (videos := [source.path for source in sources if source.kind != "picture"]):
        raise InputError(f"{videos[0]}: --boxes is for pictures; for a video give --box or use a detector")
    if options.drawn:
        for source in sources:
            copy = Path(options.drawn, source.copy)
            if copy.exists() and Path(source.path).exists() and copy.samefile(source.path):
                raise InputError(f"{source.path} would be overwritten by its drawn copy; give --drawn another folder")
    if options.out and (not Path(options.out).resolve().parent.is_dir() or Path(options.out).is_dir()):
        raise InputError(f"{options.out}: not a file in an existing folder; make the folder first")


def run(options):
    """Predict, and write what was asked for; True if every frame had a face."""
    sources = find_sources(options.paths)
    check_files(options, sources)
    find_boxes = box_finder(options)
    from rafa_model import load_rafa_net

    model, progress = load_rafa_net(options.weights), Progress(sources)
    with ExitStack() as stack:
        stream = sys.stdout
        if options.out:
            stream = stack.enter_context(open(options.out, "w", encoding="utf-8", newline=""))
        sinks = []
        if options.drawn:
            copies = DrawnCopies(options.drawn, options.style)
            stack.callback(copies.close)
            sinks.append(copies)
        if options.explain:
            sinks.append(Explanations(model, options.explain, tuple(options.cell), options.cam, options.singles))
        writer = RowWriter(stream, options.format, options.rotation)
        frames = read_frames(sources)
        try:
            for frame in predict_frames(model, frames, find_boxes, options.margin, options.batch_size):
                writer.write(rows_of(frame, options.roll_sign, options.rotation))
                progress.count(frame)
                for sink in sinks:
                    sink.write(frame)
        except KeyboardInterrupt:
            say("\nstopped: everything up to here is written")
        progress.finish()
    return progress.without == 0


def main(arguments=None):
    """The script; returns its exit status."""
    options = parse_options(arguments)
    try:
        if options.export:
            from export import export_checked

            export_checked(options.weights, options.export)
            return 0
        return 0 if run(options) else 1
    except BrokenPipeError:  # whoever read the rows has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, ValueError) as error:
        say(f"error: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main())
