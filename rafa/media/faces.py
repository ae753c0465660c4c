"""The faces of frames: their boxes, the crops of them, and the network's answers."""

import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from data_loaders import mean_of_views, views_of
from rafa.datasets.rows import RowError, check_box, known_end, parse_box, read_rows
from rafa.media.detectors import Found
from rafa.media.sources import Face, Frame
from rafa.script import InputError

NO_FACE = "no face"
BUFFERED_BYTES = 2**28  # of frames that wait for a full batch

FindBoxes = Callable[[str, np.ndarray], list[Found]]  # faces of (path, (h, w, 3) uint8 RGB); may raise InputError
Predict = Callable[[np.ndarray], np.ndarray]  # (n, 224, 224, 3) uint8 RGB → (n, 3) yaw, pitch, roll in radians


# --- Boxes and crops --------------------------------------------------------------------------------------------------
class ListedBoxes:
    """Finds an image's box in a crop list by the end of the image's path; called as a FindBoxes.

    The row `AFLW2000/image00002.jpg` fits the image `data/AFLW2000/image00002.jpg`; the longest fit counts.

    Args:
        file: a crop list in the published format, rows `path TAB row column size size`.

    Raises:
        InputError: a list that cannot be read or has a malformed row; when called, an image without a box in the list.
    """

    def __init__(self, file: str) -> None:
        self.file, self.boxes = file, read_rows(file, parse_box)[0]

    def __call__(self, path: str, image: np.ndarray) -> list[Found]:
        row = known_end(os.path.abspath(path), self.boxes)
        if row is None:
            raise InputError(f"no row of {self.file} names this image; a row gives the end of its path")
        if (box := self.boxes[row]) is None:
            raise InputError(f"the row {row} of {self.file} has no box")
        return [(box, None)]


def cut_faces(frame: Frame, find_boxes: FindBoxes, margin: float, views: int = 1) -> None:
    """Give a frame its faces, or a problem if it has none; a frame that could not be read stays as it is.

    Args:
        find_boxes: `ListedBoxes`, a detector, or another function; an InputError becomes the frame's problem.
        margin: by which the boxes grow on each side, as a share of their size.
        views: crops of each face, 1 or 6.
    """
    if frame.image is None:
        return
    try:
        found = find_boxes(frame.source.path, frame.image)
        for box, _ in found:
            check_box(box, *frame.image.shape[:2])
    except (InputError, RowError) as error:
        frame.problem = str(error)
        return
    frame.faces = [
        Face(box, views_of(frame.image, *box, margin, views), confidence=confidence, number=number)
        for number, (box, confidence) in enumerate(found)
    ]
    frame.problem = "" if found else NO_FACE


# --- Predicting -------------------------------------------------------------------------------------------------------
def predict_frames(
    predict: Predict, frames: Iterable[Frame], find_boxes: FindBoxes, margin: float, batch_size: int, views: int = 1
) -> Iterator[Frame]:
    """Yield the frames in order, with their faces and angles; a batch may hold the faces of several frames.

    At most `batch_size` frames wait for a full batch, and no more once they fill BUFFERED_BYTES.

    Args:
        predict: the network's answers to crops, asked for `batch_size` faces at most.
        find_boxes, margin, views: see `cut_faces`.
    """
    waiting: list[Frame] = []
    for frame in frames:
        cut_faces(frame, find_boxes, margin, views)
        waiting.append(frame)
        faces = sum(len(frame.faces) for frame in waiting)
        size = sum(frame.image.nbytes for frame in waiting if frame.image is not None)
        if max(faces, len(waiting)) >= batch_size or size >= BUFFERED_BYTES:
            _add_angles(predict, waiting, batch_size, views)
            yield from waiting
            waiting = []
    _add_angles(predict, waiting, batch_size, views)
    yield from waiting


def _add_angles(predict: Predict, frames: list[Frame], batch_size: int, views: int) -> None:
    faces = [face for frame in frames for face in frame.faces]
    for start in range(0, len(faces), batch_size):
        batch = faces[start : start + batch_size]
        answers = predict(np.concatenate([face.views for face in batch]))
        for face, angles, spread in zip(batch, *mean_of_views(answers, views), strict=True):
            face.angles, face.spread = angles, spread
