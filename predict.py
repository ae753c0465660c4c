"""Predict head pose in images and videos: one row per face, with yaw, pitch and roll in degrees.

    python predict.py photo.jpg
    python predict.py photo.jpg --box 80 120 200 --uncertainty
    python predict.py folder clip.mp4 --weights FILE --out poses.csv --drawn drawn/
    python predict.py photo.jpg --explain maps/
    python predict.py --export model.onnx

Yaw > 0 turns the nose to the left of the image, pitch > 0 looks up, roll > 0 tilts the head counter-clockwise in the
image.  Rows go to stdout or --out, messages to stderr.

Exit status: 0 if every image and frame had a face, 3 if one had none or could not be read, 2 for bad options or input,
130 or 143 if it was stopped by Ctrl-C or SIGTERM before the end of an image, video or pipe.

From Python, see `PoseEstimator`.
"""

import argparse
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np

from data_loaders import VIEWS
from rafa.files import ROOT, sha256
from rafa.media.copies import DrawnCopies
from rafa.media.detectors import LIBFACEDETECTION_SURE, YUNET_SURE, Detector, FoundFace, LibFaceDetection, YuNetDetector
from rafa.media.drawing import STYLES
from rafa.media.faces import NO_FACE, FindFaces, ListedBoxes, predict_frames
from rafa.media.output import FORMATS, ROTATION_FIELDS, Rows
from rafa.media.panels import Explanations
from rafa.media.sources import Frame, Source, find_sources, read_frames
from rafa.media.tracking import smoothed
from rafa.net.explain import RULES, Explainer
from rafa.net.inference import NETWORK_BATCH, is_exported, load_network, predict_angles
from rafa.net.pretrained import SYNTHETIC, SYNTHETIC_FILE, SYNTHETIC_MADE, weights_file
from rafa.score.predictions import ROLL_SIGNS
from rafa.score.protocol import read_results
from rafa.script import InputError, number, option_parser, progress, run_script

SYNTHETIC_RESULT = ROOT / "pretrained" / "aflw2000.json"  # from `evaluate.py aflw2000 --weights synthetic --result`
MARGIN = 0.2  # of the suite's own weights, and of most rows of the paper
WITHOUT_FACE = 3  # exit status; Python's own for a crash is 1

Image: TypeAlias = str | Path | np.ndarray


# --- From Python ------------------------------------------------------------------------------------------------------
class PoseEstimator:
    """Finds the faces of images and estimates their poses; made once, called often, from any thread.

        import sys; sys.path.append("the folder of this suite")
        from predict import PoseEstimator

        estimate = PoseEstimator()
        for face in estimate("photo.jpg"):
            print(face.box, np.degrees(face.angles), np.degrees(face.spread), face.rotation)

    Args:
        weights: "synthetic", the suite's own, or a .keras, .weights.h5 or .onnx file.
        views: crops of each face, 1 or 6, whose mean is the answer; None is 6 with the suite's own weights, else 1.
        margin: added on each side of the box, as a share of its size.
        find: (path, (h, w, 3) uint8 RGB) → the faces as `FoundFace`; None is libfacedetection.  Others are
            `by(YuNetDetector(file))` and `ListedBoxes(file)`.
        once: answer the first batch soon, by not compiling the network, and later ones more slowly.

    Raises:
        InputError: weights that are missing or damaged; no detector for this system.
    """

    def __init__(
        self,
        weights: str | Path = SYNTHETIC,
        views: int | None = None,
        margin: float = MARGIN,
        find: FindFaces | None = None,
        once: bool = False,
    ) -> None:
        self.views = (6 if weights == SYNTHETIC else 1) if views is None else views
        if self.views not in VIEWS or margin < 0:
            raise InputError(f"{views} views, margin {margin}; expected 1 or 6 views, and a margin of at least 0")
        self.find, self.margin = find or by(LibFaceDetection()), margin
        file = weights_file(weights)
        self.network = load_network(file)
        if once and not is_exported(file):  # compiling takes longer than a batch or two; answers may round differently
            self.network.run_eagerly = True
        self.lock = threading.Lock()

    def __call__(self, images: Image | Iterable[Image]) -> Any:
        """The faces of an image, the largest as it was detected first; of several images, a list of them for each.

        Args:
            images: a path, an (h, w, 3) uint8 RGB array, or a list of those.

        Returns:
            Faces with `box` (row, column, size in pixels, without the margin), the detector's `confidence`, `angles`
            and their `spread` over the views, (3,) yaw, pitch, roll in radians, in the signs of the published lists
            (`spread` is NaN with one view), and `rotation`, (3, 3), see `rafa.pose.rotation_matrix`.

        Raises:
            InputError: an image that cannot be read, an array of another shape or type.
        """
        single = isinstance(images, Image)
        several, found = cast(Iterable[Image], [images] if single else images), []
        with self.lock:
            for frame in self.frames(map(_frame_of, several)):
                if frame.problem not in ("", NO_FACE):
                    raise InputError(f"{frame.source.path}: {frame.problem}")
                found.append(frame.faces)
        return found[0] if single else found

    def frames(self, frames: Iterable[Frame], batch_size: int = NETWORK_BATCH) -> Iterator[Frame]:
        """The frames of `rafa.media.sources.read_frames` with their faces, for videos and folders of any size."""
        predict = partial(predict_angles, self.network)
        return predict_frames(predict, frames, self.find, self.margin, batch_size, self.views)


def by(detector: Detector) -> FindFaces:
    """The function that finds faces by a detector, wherever the image comes from."""
    return lambda path, image: detector(image)


def _frame_of(image: Image) -> Frame:
    """An image to find faces in."""
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InputError(f"an array {image.shape} of {image.dtype}; expected (h, w, 3) uint8 in RGB")
        return Frame(Source("array", Path("array.png"), "image"), image=np.ascontiguousarray(image))
    if not isinstance(image, str | Path):
        raise InputError(f"a {type(image).__name__}; expected a path or an (h, w, 3) uint8 RGB array")
    source, *others = find_sources([str(image)])
    if others or source.kind != "image":
        raise InputError(f"{image}: expected an image; for videos and folders see predict.py, or PoseEstimator.frames")
    return next(read_frames([source]))


# --- Options ----------------------------------------------------------------------------------------------------------
def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = option_parser(__doc__)
    add = parser.add_argument
    add(
        "paths", nargs="*", metavar="PATH", help="images, videos, folders, cameras (0), streams (rtsp://...), pipes (-)"
    )
    add("--weights", default=SYNTHETIC, metavar="FILE", help="the suite's own, or a .keras, .weights.h5 or .onnx file")
    add(
        "--views",
        type=int,
        choices=(1, 6),
        help="crops of each face: one, or three margins and their mirror images, whose mean is the answer "
        f"(default: 6 with the weights {SYNTHETIC}, else 1)",
    )
    add("--uncertainty", action="store_true", help="also output the standard deviation of each angle over six views")
    add(
        "--batch-size",
        type=number(int, 1, NETWORK_BATCH),
        metavar="N",
        help=f"batch size, and maximum buffered frames; 1 answers a camera without delay (default: {NETWORK_BATCH}); 1 "
        "with --export: for one crop at a time, as OpenCV's dnn needs it",
    )
    boxes = parser.add_argument_group("face boxes", "found by libfacedetection unless they are given")
    add = boxes.add_mutually_exclusive_group().add_argument
    add("--box", nargs=3, type=int, metavar=("ROW", "COLUMN", "SIZE"), help="square box, top left corner, in pixels")
    add("--boxes", metavar="LIST", help="crop list in the published format: path TAB row column size size")
    add("--detector-model", metavar="YUNET.onnx", help="find faces by OpenCV with this file of a YuNet")
    add = boxes.add_argument
    add(
        "--min-confidence",
        type=number(float, 0, 1),
        metavar="C",
        help=f"leave out faces of less confidence (default: {LIBFACEDETECTION_SURE}; YuNet: {YUNET_SURE})",
    )
    add(
        "--margin",
        type=number(float, 0, 5),
        default=MARGIN,
        metavar="SHARE",
        help="margin added on each side of the box, as a share of its size",
    )
    add = parser.add_argument_group("rows").add_argument
    add("--format", choices=FORMATS, default="csv", help="CSV, one JSON object per line, or as OpenFace 2.2 of a video")
    add("--out", metavar="FILE", help="write the rows to this file (default: stdout)")
    add("--smooth", action="store_true", help="in videos, follow each face and smooth its angles by a One-Euro filter")
    add(
        "--roll-sign",
        choices=ROLL_SIGNS,
        default="list",
        help="roll sign convention of the rows: the published lists', or the .mat files' (the opposite)",
    )
    add(
        "--rotation",
        choices=tuple(ROTATION_FIELDS),
        default="none",
        help="also output the head rotation (image axes: x right, y down, z to the viewer; nose = R·(0,0,1))",
    )
    add = parser.add_argument_group("images", "always in the signs of the published lists").add_argument
    add("--drawn", metavar="DIR", help="save copies with the poses drawn on them")
    add("--style", choices=STYLES, default="both", help="how --drawn shows a pose")
    add("--explain", metavar="DIR", help="save Grad-CAM and attention panels, one per face")
    add("--cam", choices=tuple(RULES), default="local", help="Grad-CAM rule of --explain, see doc/explanations.md")
    add = parser.add_argument_group("export, instead of predicting").add_argument
    add(
        "--export",
        metavar="FILE.onnx|FILE.tflite|DIR",
        help="write the network as ONNX, LiteRT or SavedModel (a folder), and check its angles",
    )
    options = parser.parse_args(arguments)
    check_options(parser, options)
    return options


def check_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that contradict each other or would be ignored."""
    if bool(options.paths) == bool(options.export):
        parser.error("give either images, folders or videos, or --export")
    chosen = {name for name, value in vars(options).items() if value != parser.get_default(name)}
    if options.export and (ignored := chosen - {"export", "weights", "batch_size", "paths"}):
        parser.error(f"--export has no use for --{', --'.join(sorted(ignored))}".replace("_", "-"))
    if options.uncertainty and options.views is None:
        options.views = 6
    if options.uncertainty and options.views == 1:
        parser.error("--uncertainty is the spread over several views; leave --views 1 out")
    if options.box and options.box[2] < 1:
        parser.error(f"the size of --box must be at least 1, not {options.box[2]}")
    suite_rows = options.format != "openface"
    for name, needed, given in (
        ("style", "--drawn", options.drawn),
        ("cam", "--explain", options.explain),
        ("min_confidence", "a detector", not (options.box or options.boxes)),
        ("roll_sign", "--format csv or jsonl", suite_rows),
        ("rotation", "--format csv or jsonl", suite_rows),
        ("uncertainty", "--format csv or jsonl", suite_rows),
    ):
        if getattr(options, name) != parser.get_default(name) and not given:
            parser.error(f"--{name.replace('_', '-')} has an effect only with {needed}")


def face_finder(options: argparse.Namespace) -> FindFaces:
    """The function that finds the faces of an image, by the options."""
    if options.box:
        return lambda path, image: [FoundFace(tuple(options.box))]
    if options.boxes:
        return ListedBoxes(options.boxes)
    least = {} if options.min_confidence is None else {"least": options.min_confidence}
    return by(YuNetDetector(options.detector_model, **least) if options.detector_model else LibFaceDetection(**least))


def check_sources(options: argparse.Namespace, sources: list[Source]) -> None:
    """Refuse options that the sources do not allow, and output that would overwrite a file that is read."""
    if options.smooth and all(source.kind == "image" for source in sources):
        raise InputError("--smooth is for videos, cameras and streams; none was given")
    if options.format == "openface" and len(sources) > 1:
        raise InputError(f"--format openface is for one video, as its rows name none; {len(sources):,} were given")
    for source in sources:
        if options.boxes and source.kind != "image":
            raise InputError(f"{source.path}: --boxes is for images; for a video give --box or use a detector")
    files = [source.path for source in sources if source.kind in ("image", "video")]
    files += [file for file in (options.boxes, options.detector_model, weights_file(options.weights)) if file]
    read = {Path(file).resolve() for file in files}
    written = [Path(options.drawn, source.copy) for source in sources] if options.drawn else []
    for file in (*written, *([Path(options.out)] if options.out else ())):
        if file.resolve() in read:
            raise InputError(f"{file} is read and would be overwritten; give --out or --drawn another place")


# --- The script -------------------------------------------------------------------------------------------------------
def run(options: argparse.Namespace) -> int:
    """Predict, and write what was asked for; returns the exit status."""
    sources = find_sources(options.paths)
    check_sources(options, sources)
    one_image = len(sources) == 1 and sources[0].kind == "image"
    estimator = PoseEstimator(options.weights, options.views, options.margin, face_finder(options), one_image)
    frames = estimator.frames(read_frames(sources), options.batch_size or NETWORK_BATCH)
    frames = smoothed(frames) if options.smooth else frames
    unit = "image" if all(source.kind == "image" for source in sources) else "frame"
    if options.out or not sys.stdout.isatty():  # otherwise the rows on the terminal show the progress
        frames = progress(frames, len(sources) if unit == "image" else None, "predicting", unit)
    endless = all(source.kind in ("camera", "stream") for source in sources)
    faces, problems = write_frames(frames, estimator.network, options, endless)
    for problem, count in problems.items():
        print(problem + (f" ({count:,} frames)" if count > 1 else ""), file=sys.stderr)
    print(f"faces: {faces:,}, {unit}s without a face: {problems.total():,}", file=sys.stderr)
    return WITHOUT_FACE if problems else 0


def write_frames(
    frames: Iterable[Frame], model: Any, options: argparse.Namespace, endless: bool
) -> tuple[int, Counter[str]]:
    """Write rows, drawn copies and explanations; returns the number of faces, and of each source's problems.

    A stop (Ctrl-C, SIGTERM) is the end of `endless` frames.
    """
    faces, problems = 0, Counter[str]()
    shape = {"roll_sign": options.roll_sign, "rotation": options.rotation, "uncertainty": options.uncertainty}
    with ExitStack() as stack:
        stream = sys.stdout
        if options.out:
            Path(options.out).parent.mkdir(parents=True, exist_ok=True)
            stream = stack.enter_context(
                open(options.out, "w", encoding="utf-8", errors="backslashreplace", newline="")
            )
        sinks: list[Rows | DrawnCopies | Explanations] = [Rows(stream, options.format, **shape)]
        if options.drawn:
            sinks.append(stack.enter_context(closing(DrawnCopies(options.drawn, options.style))))
        if options.explain:
            sinks.append(Explanations(Explainer(model), options.explain, options.cam))
        try:
            for frame in frames:
                faces += len(frame.faces)
                problems.update([f"{frame.source.path}: {frame.problem}"] if frame.problem else [])
                for sink in sinks:
                    sink.write(frame)
        except KeyboardInterrupt as stop:
            if not endless:
                stop.args = ("everything up to here is written",)
                raise
    return faces, problems


def described() -> str:
    """One line about the suite's own weights: how they were made, and their error on photographs."""
    error = "not measured"
    for result in read_results(SYNTHETIC_RESULT) if SYNTHETIC_RESULT.is_file() else []:
        card, mae = result["card"], result["estimates"]["mae"]
        if card["weights"] and card["weights"]["sha256"] == sha256(SYNTHETIC_FILE):
            scored = f"{card['images']['scored']:,} photographs of {card['data_set']}"
            views = card["weights"]["views"]
            error = f"mean error {mae.value:.1f}° [{mae.low:.1f}, {mae.high:.1f}] on {scored}, with {views} views"
    file = SYNTHETIC_FILE.relative_to(ROOT)
    return f"weights: {file}, {SYNTHETIC_MADE}; {error}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The script; returns its exit status."""
    options = parse_options(arguments)
    weights = weights_file(options.weights)
    if options.weights == SYNTHETIC:
        print(described(), file=sys.stderr)
    if is_exported(weights) and (options.explain or options.export):
        what = "--explain needs the layers of a network" if options.explain else "--export needs a network"
        raise InputError(f"{weights} is an exported network; {what} in a .keras or .weights.h5 file")
    if options.export:
        from rafa.net.export import export_checked

        export_checked(weights, options.export, options.batch_size)
        return 0
    return run(options)


if __name__ == "__main__":
    run_script(main)
