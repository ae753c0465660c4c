"""The faces of frames: their boxes, the crops of them, and the network's answers."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from data_loaders import mean_of_views, views_of
from rafa.datasets.rows import RowError, check_box, known_end, parse_box, read_rows
from rafa.media.detectors import FoundFace, listed_box
from rafa.media.sources import Face, Frame
from rafa.pose import AXES
from rafa.script import InputError

NO_FACE = "no face"
BUFFERED_BYTES = 2**28  # of frames that wait for a full batch

FindFaces = Callable[[str, np.ndarray], list[FoundFace]]  # of (path, (h, w, 3) uint8 RGB); may raise InputError
Predict = Callable[[np.ndarray], np.ndarray]  # (n, 224, 224, 3) uint8 RGB → (n, 3) yaw, pitch, roll in radians


# --- Boxes ------------------------------------------------------------------------------------------------------------
class ListedBoxes:
    """Finds an image's box in a crop list by the end of the image's path; called as a FindFaces.

    The row `AFLW2000/image00002.jpg` fits the image `data/AFLW2000/image00002.jpg`; the longest fit counts.

    Args:
        file: a crop list in the published format, rows `path TAB row column size size`.

    Raises:
        InputError: a list that cannot be read or has a malformed row; when called, an image without a box in the list.
    """

    def __init__(self, file: str) -> None:
        self.file, self.boxes = file, read_rows(file, parse_box)[0]

    def __call__(self, path: str, image: np.ndarray) -> list[FoundFace]:
        row = known_end(os.path.abspath(path), self.boxes)
        if row is None:
            raise InputError(f"no row of {self.file} names this image; a row gives the end of its path")
        if (box := self.boxes[row]) is None:
            raise InputError(f"the row {row} of {self.file} has no box")
        return [FoundFace(box)]


def find_faces(frame: Frame, find: FindFaces) -> None:
    """Give a frame its faces, or a problem if it has none; a frame that could not be read stays as it is.

    Args:
        find: `ListedBoxes`, a detector, or another function; an InputError becomes the frame's problem.
    """
    if frame.image is None:
        return
    try:
        found = find(frame.source.path, frame.image)
        for face in found:
            check_box(face.box, *frame.image.shape[:2])
    except (InputError, RowError) as error:
        frame.problem = str(error)
        return
    frame.faces = [Face(*face, number=number) for number, face in enumerate(found)]
    frame.problem = "" if found else NO_FACE


# --- Angles -----------------------------------------------------------------------------------------------------------
def predict_faces(
    predict: Predict, images: Sequence[np.ndarray], faces: Sequence[Face], margin: float, views: int = 1
) -> None:
    """Give faces their angles; the box of a face that a detector found is set right by a first answer.

    Args:
        predict: the network's answers to crops.
        images: the image of each face, (h, w, 3) uint8 RGB.
        margin: by which the boxes grow on each side, as a share of their size.
        views: crops of each face for the answer that counts, 1 or 6.
    """
    detected = [(image, face, face.square) for image, face in zip(images, faces, strict=True) if face.square]
    if detected:
        first = predict(np.concatenate([views_of(image, *face.box, margin) for image, face, _ in detected]))
        for (_, face, square), yaw in zip(detected, first[:, AXES.index("yaw")], strict=True):
            face.box = listed_box(square, yaw)
    crops = [views_of(image, *face.box, margin, views) for image, face in zip(images, faces, strict=True)]
    means, spreads = mean_of_views(predict(np.concatenate(crops)), views)
    for face, views_of_face, angles, spread in zip(faces, crops, means, spreads, strict=True):
        face.crop, face.angles = views_of_face[0].copy(), angles  # the copy lets the other views go
        if views > 1:
            face.spread = spread


def predict_frames(
    predict: Predict, frames: Iterable[Frame], find: FindFaces, margin: float, batch_size: int, views: int = 1
) -> Iterator[Frame]:
    """Yield the frames in order, with their faces and angles; a batch may hold the faces of several frames.

    At most `batch_size` frames wait for a full batch, and no more once they fill BUFFERED_BYTES.

    Args:
        predict, margin, views: see `predict_faces`, which is given `batch_size` faces at most.
        find: see `find_faces`.
    """
    waiting: list[Frame] = []
    for frame in frames:
        find_faces(frame, find)
        waiting.append(frame)
        faces = sum(len(frame.faces) for frame in waiting)
        size = sum(frame.image.nbytes for frame in waiting if frame.image is not None)
        if max(faces, len(waiting)) >= batch_size or size >= BUFFERED_BYTES:
            _predict_waiting(predict, waiting, margin, batch_size, views)
            yield from waiting
            waiting = []
    _predict_waiting(predict, waiting, margin, batch_size, views)
    yield from waiting


def _predict_waiting(predict: Predict, frames: list[Frame], margin: float, batch_size: int, views: int) -> None:
    faces = [(frame.image, face) for frame in frames if frame.image is not None for face in frame.faces]
    for start in range(0, len(faces), batch_size):
        images, batch = zip(*faces[start : start + batch_size], strict=True)
        predict_faces(predict, images, batch, margin, views)
