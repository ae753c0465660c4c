"""Comparing lists with the annotations beside the images: `.mat` files of 300W-LP and AFLW2000, pose files of BIWI."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rafa.datasets.lists import Box, Listed, image_path
from rafa.pose import AXES, angles_of
from rafa.script import InputError, progress

# Degrees.  `.mat` files hold the lists' angles times π/3.14: at most 0.043° more in 394 rows of AFLW2000.
TOLERANCE = 0.1
# Shard of the smaller of two boxes, the listed one and that around the landmarks.  In 394 rows of AFLW2000: 0.58 and
# more, but for image01748 (0.40) and image02317 (0), whose boxes do not lie on the annotated face.
LEAST_OVERLAP = 0.5


@dataclass(frozen=True)
class Annotation:
    """What a file beside an image says of the head."""

    angles: np.ndarray  # (3,) in AXES order, radians, list signs
    landmarks: np.ndarray  # (2, n) x and y in pixels; no columns where the file has none


@dataclass
class Comparison:
    """How many rows have annotations, and what was found in them: by path, in a few words."""

    rows: int = 0
    angles: dict[str, str] = field(default_factory=dict)  # that differ by more than TOLERANCE
    boxes: dict[str, str] = field(default_factory=dict)  # with less than LEAST_OVERLAP
    unread: dict[str, str] = field(default_factory=dict)


def annotation_path(image: Path) -> Path:
    """Where the annotation of an image lies, if it has one."""
    frame = image.name.removesuffix("_rgb.png")
    return image.with_suffix(".mat") if frame == image.name else image.with_name(f"{frame}_pose.txt")


def read_annotation(file: Path) -> Annotation:
    """Read a `.mat` file, or a pose file: a rotation (3, 3) and a place.

    Raises:
        InputError: a file that cannot be read, or holds no pose.
    """
    try:
        if file.suffix == ".mat":
            return _from_mat(file)
        rotation = np.loadtxt(file)[:3]
        if rotation.shape != (3, 3) or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
            raise ValueError("no rotation matrix in its first three rows")
        return Annotation(angles_of(rotation) * (-1, -1, 1), np.empty((2, 0)))
    except Exception as error:  # SciPy raises many kinds for a broken file
        raise InputError(f"{file} is not an annotation that can be read: {error}; get it again") from error


def _from_mat(file: Path) -> Annotation:
    from scipy.io import loadmat

    content = loadmat(file, variable_names=("Pose_Para", "pt3d_68", "pt2d"))
    if "Pose_Para" not in content:
        raise ValueError("no Pose_Para in it")
    pitch, yaw, roll = np.asarray(content["Pose_Para"], float).ravel()[:3]
    landmarks = np.asarray(content.get("pt3d_68", content.get("pt2d", [[]])), float)
    return Annotation(np.array([yaw, pitch, -roll]), landmarks[:2, :])


def overlap(box: Box, landmarks: np.ndarray) -> float:
    """The common area of a box and that around landmarks (2, n), as a share of the smaller of the two."""
    row, column, size = box
    first, last = landmarks.min(axis=1), landmarks.max(axis=1)
    common = np.minimum(last, (column + size, row + size)) - np.maximum(first, (column, row))
    return float(np.prod(common.clip(0)) / max(1e-9, min(np.prod(last - first), size**2)))


def compare(listed: Listed) -> Comparison:
    """Compare the rows of a list with the annotations that are there."""
    result = Comparison()
    for record in progress(listed.records, len(listed.records), f"annotations of {listed.dataset.title}"):
        path, file = str(record["path"]), annotation_path(image_path(listed, record))
        if not file.is_file():
            continue
        result.rows += 1
        try:
            annotation = read_annotation(file)
        except InputError as error:
            result.unread[path] = str(error)
            continue
        difference = np.degrees(np.abs(record["angles"] - annotation.angles))
        if not (difference <= TOLERANCE).all():
            axes = zip(AXES, np.degrees(record["angles"]), np.degrees(annotation.angles), strict=True)
            result.angles[path] = ", ".join(
                f"{axis} {one:.2f}°, in {file.name} {other:.2f}°" for axis, one, other in axes
            )
        if annotation.landmarks.size:
            share = overlap((record["row"], record["column"], record["size"]), annotation.landmarks)
            if not share >= LEAST_OVERLAP:
                result.boxes[path] = f"an overlap of {share:.2f} with the landmarks in {file.name}"
    return result
