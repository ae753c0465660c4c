"""How the detector's boxes relate to the published ones: the numbers of `util.detectors.MAPPINGS`.

python tests/measurements/detector_boxes.py --data-dir data
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from data_loaders import AXES, image_path, keep_present, load_data_set, read_image
from util.detectors import MAPPINGS, SAME_FACE, HaarDetector, overlap
from util.errors import InputError

# --- Measuring the mapping --------------------------------------------------------------------------------------------


def relation(square, box):
    """(scale, right, down) that lead from a detected square (x, y, side) to a listed box (row, column, size)."""
    (x, y, side), (row, column, size) = square, box
    return size / side, (column + size / 2 - x - side / 2) / side, (row + size / 2 - y - side / 2) / side


def measure(listed):
    """Run the Haar detector over `Listed` pictures with boxes and angles.

    Returns:
        A structured array with a row per picture: `angles` in degrees, the `kind` that found the listed face ("" if
        none did), its `relation` to the listed box, the `overlap` of mapped and listed box, and `others`: detections
        elsewhere, other people and false ones alike.
    """
    detector, rows = HaarDetector(), []
    for done, record in enumerate(listed.records, start=1):
        box = tuple(int(record[name]) for name in ("row", "column", "size"))
        where = (box[1], box[0], box[2])
        squares = detector.squares(read_image(image_path(listed, record)))
        kind, *square = max(squares, key=lambda found: overlap(found[1:], where), default=("", 0, 0, 1))
        found = bool(squares) and overlap(square, where) >= SAME_FACE
        mapped = overlap(MAPPINGS[kind].training_box(*square), box) if found else 0.0
        related = relation(square, box) if found else (np.nan,) * 3
        rows.append((np.degrees(record["angles"]), kind if found else "", related, mapped, len(squares) - found))
        print(f"\r{done} of {len(listed.records)} pictures", end="", file=sys.stderr)
    print(file=sys.stderr)
    fields = [("angles", "f8", (3,)), ("kind", "U8"), ("relation", "f8", (3,)), ("overlap", "f8"), ("others", "i8")]
    return np.array(rows, fields)


def report(rows):
    """What `measure` found, as lines of text: mappings with their spread, and detection rates by |yaw|."""
    mirror = np.where(rows["kind"] == "right", -1, 1)
    related = rows["relation"] * np.stack([np.ones_like(mirror), mirror, np.ones_like(mirror)], axis=1)
    near = (np.abs(rows["angles"]) < 30).all(axis=1)
    lines = []
    for name, chosen in (
        ("frontal", (rows["kind"] == "frontal") & near),
        ("profile", np.isin(rows["kind"], ("left", "right"))),
    ):
        quarter, middle, three = np.percentile(related[chosen], (25, 50, 75), axis=0)
        values = [f"{m:.3f} ({a:.3f}...{b:.3f})" for m, a, b in zip(middle, quarter, three, strict=True)]
        lines.append(f"{name}, n = {chosen.sum()}: scale {values[0]}, right {values[1]}, down {values[2]}")
    lines.append("median (quartiles); |yaw|: faces found of those listed, and median overlap with the listed box")
    yaw = np.abs(rows["angles"][:, AXES.index("yaw")])
    for low, high in ((0, 15), (15, 30), (30, 45), (45, 60), (60, 75), (75, 180)):
        part = rows[(yaw >= low) & (yaw < high)]
        hits = part[part["kind"] != ""]
        median = f", overlap {np.median(hits['overlap']):.2f}" if len(hits) else ""
        lines.append(f"{low:2}...{high}: {len(hits)} of {len(part)}{median}")
    lines.append(f"elsewhere (other people and false detections): {rows['others'].sum()} in {len(rows)} pictures")
    return lines


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", default="data", help="folder with AFLW2000 and the published lists (data)")
    options = parser.parse_args(arguments)
    try:
        listed = keep_present(load_data_set("aflw2000", options.data_dir), allow_missing=True)
    except InputError as error:
        sys.exit(f"error: {error}")
    print("\n".join(report(measure(listed))))


if __name__ == "__main__":
    main()
