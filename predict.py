"""Predict head pose in images and videos: one row per face, with yaw, pitch and roll in degrees.

    python predict.py photo.jpg
    python predict.py photo.jpg --box 80 120 200 --uncertainty
    python predict.py folder clip.mp4 --weights FILE --out poses.csv --drawn drawn/
    python predict.py photo.jpg --explain maps/
    python predict.py --export model.onnx

Yaw > 0 turns the nose to the left of the image, pitch > 0 looks up, roll > 0 tilts the head counter-clockwise in the
image.  Rows go to stdout or --out, messages to stderr.

Exit status: 0 if every image and frame had a face, 1 if one had none or could not be read, 2 for bad options or input,
130 or 143 if it was stopped by Ctrl-C or SIGTERM before the end of an image, video or pipe.
"""

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from data_loaders import mean_of_views
from rafa.files import ROOT, sha256
from rafa.media.detectors import SMALLEST_FACE, SURE, Detector, HaarDetector, YuNetDetector
from rafa.media.drawing import STYLES
from rafa.media.panels import Explanations
from rafa.media.sources import DrawnCopies, FindBoxes, Frame, ListedBoxes, Source, cut_faces, find_sources, read_frames
from rafa.media.tracking import smoothed
from rafa.net.explain import RULES, Explainer
from rafa.net.inference import (
    NETWORK_BATCH,
    SYNTHETIC,
    SYNTHETIC_FILE,
    CalledDirectly,
    is_exported,
    load_network,
    predict_angles,
    weights_file,
)
from rafa.pose import AXES, rotation_matrix
from rafa.score.predictions import ROLL_SIGNS
from rafa.score.protocol import read_results
from rafa.script import InputError, number, option_parser, progress, run_script

SYNTHETIC_RESULT = ROOT / "pretrained" / "aflw2000.json"  # from `evaluate.py aflw2000 --weights synthetic --result`
BUFFERED_BYTES = 2**28  # of frames that wait for a full batch

# --- Predicting -------------------------------------------------------------------------------------------------------


def predict_frames(
    model: Any, frames: Iterable[Frame], find_boxes: FindBoxes, margin: float, batch_size: int, views: int = 1
) -> Iterator[Frame]:
    """Yield the frames in order, with their faces and angles; a batch may hold the faces of several frames.

    At most `batch_size` frames wait for a full batch, and no more once they fill BUFFERED_BYTES.
    """
    waiting: list[Frame] = []
    for frame in frames:
        cut_faces(frame, find_boxes, margin, views)
        waiting.append(frame)
        faces = sum(len(frame.faces) for frame in waiting)
        size = sum(frame.image.nbytes for frame in waiting if frame.image is not None)
        if max(faces, len(waiting)) >= batch_size or size >= BUFFERED_BYTES:
            _add_angles(model, waiting, batch_size, views)
            yield from waiting
            waiting = []
    _add_angles(model, waiting, batch_size, views)
    yield from waiting


def _add_angles(model: Any, frames: list[Frame], batch_size: int, views: int) -> None:
    faces = [face for frame in frames for face in frame.faces]
    for start in range(0, len(faces), batch_size):
        batch = faces[start : start + batch_size]
        answers = predict_angles(model, np.concatenate([face.views for face in batch]))
        for face, angles, spread in zip(batch, *mean_of_views(answers, views), strict=True):
            face.angles, face.spread = angles, spread


# --- Rows -------------------------------------------------------------------------------------------------------------

ROTATION_FIELDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "matrix": tuple(f"r{row}{column}" for row in (1, 2, 3) for column in (1, 2, 3)),
    "quaternion": ("qx", "qy", "qz", "qw"),
}


def row_fields(rotation: str, uncertainty: bool = False) -> tuple[str, ...]:
    """The names of a row's fields, in order."""
    spreads = tuple(f"{axis}_spread" for axis in AXES) if uncertainty else ()
    where = ("source", "frame", "seconds", "face", "row", "column", "size", "confidence")
    return (*where, *AXES, *spreads, *ROTATION_FIELDS[rotation], "status")


def rows_of(
    frame: Frame, roll_sign: str = "list", rotation: str = "none", uncertainty: bool = False
) -> list[dict[str, Any]]:
    """One dict per face with the keys of `row_fields`; for a frame without faces, one whose status says why.

    Args:
        roll_sign: "list", or "mat" for the opposite sign of the `.mat` files.
        rotation: a key of ROTATION_FIELDS; the rotation of `data_loaders.rotation_matrix`, whatever the roll's sign.
        uncertainty: also the standard deviation of each angle over the views.
    """
    fields, rows = row_fields(rotation, uncertainty), []
    where: dict[str, Any] = {"source": frame.source.path, "frame": frame.number}
    where["seconds"] = None if frame.seconds is None else round(frame.seconds, 4)
    if not frame.faces:
        return [dict.fromkeys(fields) | where | {"status": frame.problem}]
    for face in frame.faces:
        degrees = np.degrees(face.angles) * (1, 1, -1 if roll_sign == "mat" else 1)
        spread = np.degrees(face.spread).round(4).tolist() if uncertainty else ()
        sure = None if face.confidence is None else round(face.confidence, 4)
        numbers = (*degrees.round(4).tolist(), *spread, *_rotation(face.angles, rotation).round(6).tolist())
        values = (*where.values(), face.number, *face.box, sure, *numbers, "ok")
        rows.append(dict(zip(fields, values, strict=True)))
    return rows


def _rotation(angles: np.ndarray, rotation: str) -> np.ndarray:
    """The values of ROTATION_FIELDS."""
    if rotation == "quaternion":
        from scipy.spatial.transform import Rotation

        return Rotation.from_matrix(rotation_matrix(angles)).as_quat(canonical=True)
    return rotation_matrix(angles).ravel() if rotation == "matrix" else np.empty(0)


def row_writer(stream: TextIO, form: str, fields: tuple[str, ...]) -> Callable[[list[dict[str, Any]]], None]:
    """A function that writes rows to a stream, as CSV below a header or as JSON lines."""
    if form == "jsonl":
        return lambda rows: stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    writer = csv.DictWriter(stream, fields, lineterminator="\n")
    writer.writeheader()
    return writer.writerows


@contextmanager
def naming(file: str) -> Iterator[None]:
    """Give an error of the system that names no file, as a full disk's, the name of one."""
    try:
        yield
    except OSError as error:
        if error.filename or not error.errno:
            raise
        raise OSError(error.errno, error.strerror, file) from error


# --- The script -------------------------------------------------------------------------------------------------------


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = option_parser(__doc__)
    add = parser.add_argument
    what = "images, folders, globs, videos, cameras (0, /dev/video0; end with Ctrl-C), streams (rtsp://...), pipes (-)"
    add("paths", nargs="*", metavar="PATH", help=what)
    what = "the network: .keras, .weights.h5, .onnx (exported), or the name of the suite's own weights"
    add("--weights", default=SYNTHETIC, metavar="FILE", help=what)
    what = "crops of each face: one, or three margins and their mirror images, whose mean is the answer "
    what += f"(default: 6 with the weights {SYNTHETIC}, else 1)"
    add("--views", type=int, choices=(1, 6), help=what)
    what = "also output the standard deviation of each angle over six views"
    add("--uncertainty", action="store_true", help=what)
    what = "batch size, and maximum buffered frames; 1 answers a camera without delay"
    add("--batch-size", type=number(int, 1, NETWORK_BATCH), default=NETWORK_BATCH, metavar="N", help=what)
    boxes = parser.add_argument_group("face boxes", "found by OpenCV's Haar cascades unless they are given")
    add = boxes.add_mutually_exclusive_group().add_argument
    add("--box", nargs=3, type=int, metavar=("ROW", "COLUMN", "SIZE"), help="square box, top left corner, in pixels")
    add("--boxes", metavar="LIST", help="crop list in the published format: path TAB row column size size")
    add("--detector", choices=("haar", "yunet"), default="haar", help="face detector")
    add = boxes.add_argument
    add("--detector-model", metavar="FILE.onnx", help="model file for the detector yunet")
    what = "smallest face for the detector haar, as a share of the image's shorter side"
    add("--smallest-face", type=number(float, 0.001, 1), default=SMALLEST_FACE, metavar="SHARE", help=what)
    what = "leave out faces of less confidence: haar's is how many of its search windows agree on the face, yunet's is "
    what += f"0 to 1 (default: all that haar finds; yunet: {SURE})"
    add("--min-confidence", type=number(float, 0), metavar="C", help=what)
    what = "margin added on each side of the box, as a share of its size"
    add("--margin", type=number(float, 0, 5), default=0.2, metavar="SHARE", help=what)
    add = parser.add_argument_group("rows").add_argument
    add("--format", choices=("csv", "jsonl"), default="csv", help="CSV, or one JSON object per line")
    add("--out", metavar="FILE", help="write the rows to this file (default: stdout)")
    add("--smooth", action="store_true", help="in videos, follow each face and smooth its angles by a One-Euro filter")
    what = "roll sign convention of the rows: the published lists', or the .mat files' (the opposite)"
    add("--roll-sign", choices=ROLL_SIGNS, default="list", help=what)
    what = "also output the head rotation (image axes: x right, y down, z to the viewer; nose = R·(0,0,1))"
    add("--rotation", choices=tuple(ROTATION_FIELDS), default="none", help=what)
    add = parser.add_argument_group("images", "always in the signs of the published lists").add_argument
    add("--drawn", metavar="DIR", help="save copies with the poses drawn on them")
    add("--style", choices=STYLES, default="both", help="how --drawn shows a pose")
    add("--explain", metavar="DIR", help="save Grad-CAM and attention panels, one per face")
    what = "cell of the 7 × 7 map whose self-attention --explain shows, 0 to 6"
    add("--cell", nargs=2, type=number(int, 0, 6), default=(3, 3), metavar=("ROW", "COLUMN"), help=what)
    add("--cam", choices=tuple(RULES), default="local", help="Grad-CAM rule of --explain, see doc/explanations.md")
    add("--singles", action="store_true", help="with --explain, also save the images of each panel as single files")
    what = "write the network as ONNX, LiteRT or SavedModel (a folder), and check its angles"
    add = parser.add_argument_group("export, instead of predicting").add_argument
    add("--export", metavar="FILE.onnx|FILE.tflite|DIR", help=what)
    options = parser.parse_args(arguments)
    check_options(parser, options)
    return options


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that contradict each other or would be ignored."""
    if bool(options.paths) == bool(options.export):
        parser.error("give either images, folders or videos, or --export")
    if (options.detector == "yunet") != bool(options.detector_model):
        parser.error("--detector yunet and --detector-model FILE.onnx belong together")
    if options.views is None:
        options.views = 6 if options.uncertainty or options.weights == SYNTHETIC else 1
    if options.uncertainty and options.views == 1:
        parser.error("--uncertainty is the spread over several views; leave --views 1 out")
    if options.box and options.box[2] < 1:
        parser.error(f"the size of --box must be at least 1, not {options.box[2]}")
    detector, yunet = not (options.box or options.boxes), options.detector_model
    if yunet and (options.min_confidence or 0) > 1:
        parser.error(f"yunet's confidence is from 0 to 1; --min-confidence is {options.min_confidence:g}")
    needs = {"style": ("--drawn", options.drawn), "smallest_face": ("the detector haar", detector and not yunet)}
    needs["min_confidence"] = ("a detector", detector)
    needs |= dict.fromkeys(("cell", "cam", "singles"), ("--explain", options.explain))
    for name, (needed, given) in needs.items():
        if getattr(options, name) != parser.get_default(name) and not given:
            parser.error(f"--{name.replace('_', '-')} has an effect only with {needed}")


def box_finder(options: argparse.Namespace) -> FindBoxes:
    """The function that finds the boxes of an image, by the options."""
    least = options.min_confidence
    if options.box:
        return lambda path, image: [(tuple(options.box), None)]
    if options.boxes:
        return ListedBoxes(options.boxes)
    detector: Detector = HaarDetector(options.smallest_face, least or 0)
    if options.detector_model:
        detector = YuNetDetector(options.detector_model, SURE if least is None else least)
    return lambda path, image: detector(image)


def check_sources(options: argparse.Namespace, sources: list[Source]) -> None:
    """Refuse options that the sources do not allow, and output that would overwrite a file that is read."""
    if options.smooth and all(source.kind == "image" for source in sources):
        raise InputError("--smooth is for videos, cameras and streams; none was given")
    for source in sources:
        if options.boxes and source.kind != "image":
            raise InputError(f"{source.path}: --boxes is for images; for a video give --box or use a detector")
    files = [source.path for source in sources if source.kind in ("image", "video")]
    files += filter(None, (options.boxes, options.weights, options.detector_model))
    read = {_identity(file): file for file in map(Path, files) if file.exists()}
    written = {Path(options.out): "the rows; give --out another file"} if options.out else {}
    if options.drawn:
        what = "a drawn copy; give --drawn another folder"
        written |= {Path(options.drawn, source.copy): what for source in sources}
    for file, what in written.items():
        if file.is_file() and (original := read.get(_identity(file))):
            raise InputError(f"{original} would be overwritten by {what}")


def _identity(file: Path) -> tuple[int, int]:
    """What two names of the same file have in common."""
    facts = file.stat()
    return facts.st_dev, facts.st_ino


def run(options: argparse.Namespace) -> int:
    """Predict, and write what was asked for; returns the exit status."""
    sources = find_sources(options.paths)
    check_sources(options, sources)
    find_boxes = box_finder(options)
    model = load_network(options.weights)
    one_image = len(sources) == 1 and sources[0].kind == "image" and not is_exported(options.weights)
    network = CalledDirectly(model) if one_image else model
    frames = predict_frames(
        network, read_frames(sources), find_boxes, options.margin, options.batch_size, options.views
    )
    frames = smoothed(frames) if options.smooth else frames
    unit = "image" if all(source.kind == "image" for source in sources) else "frame"
    if options.out or not sys.stdout.isatty():  # otherwise the rows on the terminal show the progress
        frames = progress(frames, len(sources) if unit == "image" else None, "predicting", unit)
    sinks: list[DrawnCopies | Explanations] = []
    faces, problems = 0, Counter[str]()
    with ExitStack() as stack:
        stream = sys.stdout
        stack.enter_context(naming(options.out or "standard output"))
        if options.out:
            Path(options.out).parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(open(options.out, "w", encoding="utf-8", newline=""))
        write_rows = row_writer(stream, options.format, row_fields(options.rotation, options.uncertainty))
        if options.drawn:
            sinks.append(stack.enter_context(closing(DrawnCopies(options.drawn, options.style))))
        if options.explain:
            sinks.append(
                Explanations(Explainer(model), options.explain, tuple(options.cell), options.cam, options.singles)
            )
        try:
            for frame in frames:
                write_rows(rows_of(frame, options.roll_sign, options.rotation, options.uncertainty))
                stream.flush()
                faces += len(frame.faces)
                problems.update([f"{frame.source.path}: {frame.problem}"] if frame.problem else [])
                for sink in sinks:
                    sink.write(frame)
        except KeyboardInterrupt as stop:
            endless = all(source.kind in ("camera", "stream") for source in sources)
            if not endless:
                stop.args = ("everything up to here is written",)
                raise
    report(faces, problems, unit)
    return 1 if problems else 0


def report(faces: int, problems: Counter[str], unit: str) -> None:
    """Say what had no face or could not be read, and how many faces there were."""
    for problem, count in problems.items():
        print(problem + (f" ({count:,} frames)" if count > 1 else ""), file=sys.stderr)
    print(f"faces: {faces:,}, {unit}s without a face: {problems.total():,}", file=sys.stderr)


def described() -> str:
    """One line about the weights: what they were trained on, and their error on real photographs."""
    error = "not measured"
    for result in read_results(SYNTHETIC_RESULT) if SYNTHETIC_RESULT.is_file() else []:
        card, mae = result["card"], result["estimates"]["mae"]
        if card["weights"] and card["weights"]["sha256"] == sha256(SYNTHETIC_FILE):
            images = f"{card['images']['scored']:,} photographs of {card['dataset']}"
            error = f"mean error {mae.value:.1f}° [{mae.low:.1f}, {mae.high:.1f}] on {images}"
    return f"weights: {SYNTHETIC_FILE.relative_to(ROOT)}, trained on synthetic heads alone; {error}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The script; returns its exit status."""
    options = parse_options(arguments)
    weights = weights_file(options.weights)
    if options.weights == SYNTHETIC:
        print(described(), file=sys.stderr)
    options.weights = weights
    if is_exported(weights) and (options.explain or options.export):
        what = "--explain needs the layers of a network" if options.explain else "--export needs a network"
        raise InputError(f"{weights} is an exported network; {what} in a .keras or .weights.h5 file")
    if options.export:
        from rafa.net.export import export_checked

        export_checked(options.weights, options.export)
        return 0
    return run(options)


if __name__ == "__main__":
    run_script(main)
