"""Lists of your own for 300W-LP, AFLW2000 and BIWI, made from the annotations beside the images."""

from collections import Counter
from pathlib import Path

import numpy as np

from rafa.datasets.annotations import annotation_path, read_angles, read_box
from rafa.datasets.lists import find_list
from rafa.datasets.rows import RowError, parse_angles, parse_box
from rafa.datasets.sets import DATASETS
from rafa.files import write_text
from rafa.pose import AXES, LIST_ORDER
from rafa.script import InputError, progress

LARGEST_ANGLE = 99  # degrees; the field leaves out images beyond it, of which 300W-LP and AFLW2000 hold a few (Hopenet)


def make_lists(name: str, data_dir: str | Path) -> None:
    """Write the crop list and the angle list of a dataset of the paper into `lists/` of the data folder.

    They hold the images of the dataset's layout that have an annotation, in the format of the published lists, but for
    the class columns.

    Raises:
        InputError: a list that is there already, in place of which none is written; an annotation that cannot be read;
            no image with one.
    """
    dataset = DATASETS[name]
    names = (dataset.crop_list, dataset.angle_list)
    for file in names:
        if there := find_list(data_dir, file):
            raise InputError(f"{there} is there already; move it away to make a list of your own")
    boxes, angles, left_out = _rows(sorted(Path(data_dir).glob(dataset.layout)), Path(data_dir), dataset.unit)
    if not boxes:
        expected = f"{dataset.layout} and its .mat or _pose.txt file beside each, from {dataset.source}"
        raise InputError(f"no image with an annotation that can be used in {data_dir}; expected {expected}")
    crop_list, angle_list = (Path(data_dir, "lists", file) for file in names)
    write_text(crop_list, "".join(boxes))
    write_text(angle_list, "".join(angles))
    counts = "".join(f"; left out: {count:,} {reason}" for reason, count in left_out.items())
    print(f"{dataset.title}: {len(boxes):,} rows in {crop_list} and {angle_list}{counts}")
    print("These are not the published lists: their boxes differ, and results say so.")


def _rows(images: list[Path], data_dir: Path, unit: str) -> tuple[list[str], list[str], Counter[str]]:
    """The rows of a crop list and of an angle list, and how many images have none, by reason."""
    boxes, rows, left_out = [], [], Counter[str]()
    for image in progress(images, len(images), "annotations"):
        annotation = annotation_path(image)
        if not annotation.is_file():
            left_out["without an annotation"] += 1
            continue
        angles = read_angles(annotation)
        if np.abs(np.degrees(angles)).max() > LARGEST_ANGLE:
            left_out[f"with an angle beyond {LARGEST_ANGLE}°"] += 1
            continue
        row, column, size = read_box(annotation)
        box, values = f"{row} {column} {size} {size}", np.degrees(angles) if unit == "degrees" else angles
        texts = "\t".join(f"{values[AXES.index(axis)]:.12f}" for axis in LIST_ORDER)
        try:
            parse_box(box)
            parse_angles(texts, unit)
        except RowError as error:
            left_out[f"whose annotation gives a {error.reason}"] += 1
            continue
        path = image.relative_to(data_dir).as_posix()
        boxes.append(f"./{path}\t{box} \n")
        rows.append(f"./{path}\t{texts}\n")
    return boxes, rows, left_out
