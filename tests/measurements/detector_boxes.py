"""Measure how a detector's boxes relate to the published ones: the numbers of `rafa.media.detectors.MAPPINGS`.

    python tests/measurements/detector_boxes.py --data-dir data
    python tests/measurements/detector_boxes.py --data-dir data --detector-model YUNET.onnx

Prints medians with quartiles, how many of the listed faces are found, by |yaw|, and the confidences.  Takes about a
minute per thousand images.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rafa.datasets.check import keep_present
from rafa.datasets.images import read_image
from rafa.datasets.lists import Listed, image_path, load_dataset
from rafa.datasets.rows import Box
from rafa.media.detectors import MAPPINGS, SAME_FACE, Detector, HaarDetector, Square, YuNetDetector, overlap
from rafa.pose import AXES
from rafa.script import number, option_parser, progress, run_script

FRONTAL = 30  # degrees: the frontal mapping is measured on faces with all three angles below this
YAWS = ((0, 15), (15, 30), (30, 45), (45, 60), (60, 75), (75, 180))  # degrees
PERCENTILES = (5, 10, 25, 50, 75, 90)  # of confidences
FIELDS = [("angles", "f8", (3,)), ("kind", "U12"), ("relation", "f8", (3,)), ("overlap", "f8"), ("others", "i8")]
FIELDS += [("confidence", "f8"), ("elsewhere", "f8")]


def relation(square: Square, box: Box) -> tuple[float, float, float]:
    """(scale, right, down) of the BoxMapping from a detected square (x, y, side) to a box (row, column, size)."""
    (x, y, side), (row, column, size) = square, box
    return size / side, (column + size / 2 - x - side / 2) / side, (row + size / 2 - y - side / 2) / side


def measure(listed: Listed, detector: Detector) -> np.ndarray:
    """Run a detector over listed images.

    Returns:
        A row of FIELDS per image: `angles` in degrees, the `kind` of detection of the listed face ("" if there is
        none), its `relation` to the listed box, the `overlap` of mapped and listed box, `others`, the number of
        detections elsewhere: other people and false ones alike, the `confidence` in the listed face, and the largest
        `elsewhere`.
    """
    rows = []
    for record in progress(listed.records, len(listed.records), "detecting"):
        row, column, size = (int(record[name]) for name in ("row", "column", "size"))
        squares = detector.squares(read_image(image_path(listed, record)))
        values: tuple = ("", (np.nan,) * 3, 0.0)
        shares, sure = [overlap(face.square, (column, row, size)) for face in squares], np.nan
        if squares and max(shares) >= SAME_FACE:
            (kind, square, sure), box = squares.pop(int(np.argmax(shares))), (row, column, size)
            values = (kind, relation(square, box), overlap(MAPPINGS[kind].box(*square), box))
        elsewhere = max((face.confidence for face in squares), default=np.nan)
        rows.append((np.degrees(record["angles"]), *values, len(squares), sure, elsewhere))
    return np.array(rows, FIELDS)


def report(rows: np.ndarray) -> list[str]:
    """What `measure` found, as lines of text."""
    related, lines = rows["relation"].copy(), ["median (quartiles)"]
    related[rows["kind"] == "right", 1] *= -1  # as if all profiles looked left
    frontal = np.isin(rows["kind"], ("frontal", "yunet")) & (np.abs(rows["angles"]) < FRONTAL).all(axis=1)
    for name, chosen in (("frontal", frontal), ("profile", np.isin(rows["kind"], ("left", "right")))):
        if not chosen.any():
            continue
        quartiles = np.percentile(related[chosen], (25, 50, 75), axis=0).T
        scale, right, down = (f"{middle:.3f} ({low:.3f}...{high:.3f})" for low, middle, high in quartiles)
        lines.append(f"{name}, n = {chosen.sum()}: scale {scale}, right {right}, down {down}")
    lines.append("|yaw| in degrees: faces found of those listed, and their median overlap with the listed box")
    yaw = np.abs(rows["angles"][:, AXES.index("yaw")])
    for low, high in YAWS:
        part = rows[(yaw >= low) & (yaw < high)]
        overlaps = part["overlap"][part["kind"] != ""]
        median = f", overlap {np.median(overlaps):.2f}" if len(overlaps) else ""
        lines.append(f"{low:2}...{high}: {len(overlaps)} of {len(part)}{median}")
    count = f"{rows['others'].sum()} in {len(rows)} images"
    lines.append(f"detections elsewhere (other people, and false detections): {count}")
    for name, confidences in (("listed faces", rows["confidence"]), ("the surest one elsewhere", rows["elsewhere"])):
        known = confidences[~np.isnan(confidences)]
        levels = np.percentile(known, PERCENTILES) if len(known) else ()
        text = " ".join(f"{level:.4g}" for level in levels) or "-"
        lines.append(f"confidence, {name}, n = {len(known)}, percentiles {' '.join(map(str, PERCENTILES))}: {text}")
    return lines


def main() -> None:
    """Measure the images that are present."""
    parser = option_parser(__doc__)
    parser.add_argument("--data-dir", default="data", help="folder with AFLW2000 and the published lists")
    parser.add_argument("--detector-model", metavar="FILE.onnx", help="a YuNet (default: the Haar cascades)")
    parser.add_argument("--every", type=number(int, 1), default=1, metavar="N", help="use every Nth image only")
    options = parser.parse_args()
    listed = keep_present(load_dataset("aflw2000", options.data_dir), allow_missing=True)
    listed = replace(listed, records=listed.records[:: options.every])
    detector = YuNetDetector(options.detector_model) if options.detector_model else HaarDetector()
    print("\n".join(report(measure(listed, detector))))


if __name__ == "__main__":
    run_script(main)
