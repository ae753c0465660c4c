"""Fit the listed box to a detector's square by yaw, and score it on photographs held back: `rafa.media.detectors`.

    python tests/measurements/detector_boxes.py --data-dir data
    python tests/measurements/detector_boxes.py --data-dir data --detector-model YUNET.onnx

Prints how many of the listed faces of AFLW2000 are found, by |yaw|, and what is found elsewhere; the coefficients
SCALE, RIGHT and DOWN; and the errors of the suite's own weights in listed boxes, in boxes of the frontal mapping and in
corrected ones, the mapping being fitted to the other half of the images.  Takes half a minute per hundred images.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data_loaders import mean_of_views, views_of
from rafa.datasets.check import keep_present
from rafa.datasets.images import read_image
from rafa.datasets.lists import Listed, image_path, load_dataset
from rafa.media import detectors
from rafa.media.detectors import SAME_FACE, Detector, LibFaceDetection, Square, YuNetDetector, listed_box, overlap
from rafa.net.inference import load_network, predict_angles
from rafa.net.pretrained import SYNTHETIC_FILE
from rafa.pose import AXES, angle_errors
from rafa.script import number, option_parser, progress, run_script

YAWS = ((0, 30), (30, 60), (60, 180))  # degrees
TYPICAL = 0.03  # deviation of a relation from the fit; larger ones count less
MARGIN = 0.2


def detect(listed: Listed, detector: Detector) -> tuple[dict[int, tuple[Square, float]], list[float]]:
    """Square and confidence of the listed faces that are found, by index; confidences of what is found elsewhere."""
    found, elsewhere = {}, []
    for index, record in enumerate(progress(listed.records, len(listed.records), "detecting")):
        box = tuple(int(record[name]) for name in ("row", "column", "size"))
        faces = detector(read_image(image_path(listed, record)))
        faces.sort(key=lambda face: overlap(face.box, box), reverse=True)
        if faces and overlap(faces[0].box, box) >= SAME_FACE:
            found[index] = faces[0].square, faces.pop(0).confidence
        elsewhere += [face.confidence for face in faces]
    return found, elsewhere


def relations(squares: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(n, 3) scale, right, down from squares (n, 3) x, y, side to listed boxes (n, 3) row, column, size."""
    (x, y, side), (row, column, size) = squares.T, boxes.T
    return np.stack([size / side, (column + size / 2 - x) / side - 0.5, (row + size / 2 - y) / side - 0.5], axis=1)


def fit(related: np.ndarray, yaw: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """SCALE, RIGHT and DOWN from `relations` (n, 3) and the yaws (n,) in radians; outliers count little."""
    turned, sense = np.abs(yaw) / (np.pi / 2), np.sign(yaw)
    scale = _solved(np.stack([np.ones_like(turned), turned, turned**2], axis=1), related[:, 0])
    right = _solved(np.stack([turned, turned**2], axis=1), related[:, 1] * sense)
    return tuple(scale.round(3).tolist()), (0.0, *right.round(3).tolist()), float(np.median(related[:, 2]).round(3))


def _solved(terms: np.ndarray, values: np.ndarray) -> np.ndarray:
    start = np.linalg.lstsq(terms, values, rcond=None)[0]
    return least_squares(lambda x: terms @ x - values, start, loss="soft_l1", f_scale=TYPICAL).x


def held_back_boxes(squares: np.ndarray, related: np.ndarray, target: np.ndarray, yaw: np.ndarray) -> list:
    """The box of each square for a yaw (n,), by the mapping that was fitted to the other half: every second image."""
    boxes: list = [None] * len(squares)
    for half in (0, 1):
        others = np.arange(len(squares)) % 2 != half
        detectors.SCALE, detectors.RIGHT, detectors.DOWN = fit(related[others], target[others])
        for index in range(half, len(squares), 2):
            boxes[index] = listed_box(tuple(squares[index].tolist()), yaw[index])
    return boxes


def report_errors(listed: Listed, squares: np.ndarray, boxes: np.ndarray) -> None:
    """Print the errors in listed, frontal and corrected boxes."""
    model, target = load_network(SYNTHETIC_FILE), listed.records["angles"]
    yaw, related = target[:, AXES.index("yaw")], relations(squares, boxes)

    def angles(chosen: list, views: int) -> np.ndarray:
        crops = [
            views_of(read_image(image_path(listed, record)), *box, MARGIN, views)
            for record, box in zip(listed.records, chosen, strict=True)
        ]
        return mean_of_views(predict_angles(model, np.concatenate(crops)), views)[0]

    def report(name: str, predicted: np.ndarray) -> None:
        errors, degrees = angle_errors(np.degrees(target), np.degrees(predicted)), np.abs(np.degrees(yaw))
        parts = [errors[(degrees >= low) & (degrees < high)].mean() for low, high in YAWS]
        axes = " / ".join(f"{error:.2f}" for error in errors.mean(axis=0))
        print(f"{name}: {axes} / {errors.mean():.2f}; by |yaw| {', '.join(f'{part:.2f}' for part in parts)}")

    frontal = held_back_boxes(squares, related, yaw, np.zeros(len(squares)))
    first = angles(frontal, 1)
    corrected = held_back_boxes(squares, related, yaw, first[:, AXES.index("yaw")])
    print("errors of yaw / pitch / roll / mean in degrees")
    report("one view, listed boxes", angles(boxes.tolist(), 1))
    report("one view, frontal mapping", first)
    report("one view, corrected", angles(corrected, 1))
    report("six views, listed boxes", angles(boxes.tolist(), 6))
    report("six views, corrected", angles(corrected, 6))


def main() -> None:
    """Measure the images that are present."""
    parser = option_parser(__doc__)
    parser.add_argument("--data-dir", default="data", help="folder with AFLW2000 and the published lists")
    parser.add_argument("--detector-model", metavar="FILE.onnx", help="a YuNet (default: libfacedetection)")
    parser.add_argument("--min-confidence", type=number(float, 0, 1), metavar="C", help="least confidence of a face")
    parser.add_argument("--every", type=number(int, 1), default=1, metavar="N", help="use every Nth image only")
    options = parser.parse_args()
    least = {} if options.min_confidence is None else {"least": options.min_confidence}
    detector = YuNetDetector(options.detector_model, **least) if options.detector_model else LibFaceDetection(**least)
    listed = keep_present(load_dataset("aflw2000", options.data_dir), allow_missing=True)
    listed = replace(listed, records=listed.records[:: options.every])
    found, elsewhere = detect(listed, detector)
    yaw = np.abs(np.degrees(listed.records["angles"][:, AXES.index("yaw")]))
    for low, high in YAWS:
        here = [index for index in range(len(yaw)) if low <= yaw[index] < high]
        print(f"|yaw| {low}° to {high}°: {sum(index in found for index in here)} of {len(here)} listed faces found")
    print(f"found elsewhere: {len(elsewhere)} in {len(yaw)} images")
    for name, values in (("listed", [confidence for _, confidence in found.values()]), ("elsewhere", elsewhere)):
        tenths = " ".join(f"{level:.2f}" for level in np.percentile(values, (5, 25, 50, 75, 95)))
        print(f"confidence {name}, percentiles 5 25 50 75 95: {tenths}")
    listed = replace(listed, records=listed.records[list(found)])
    squares = np.array([square for square, _ in found.values()])
    boxes = np.stack([listed.records[name] for name in ("row", "column", "size")], axis=1)
    related = relations(squares, boxes)
    print("SCALE, RIGHT, DOWN =", fit(related, listed.records["angles"][:, AXES.index("yaw")]))
    report_errors(listed, squares, boxes)


if __name__ == "__main__":
    run_script(main)
