"""Images and videos for tests, in RGB."""

from pathlib import Path

import cv2
import numpy as np

NOISE = cv2.resize(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8), (160, 120))


def grey(rows: int, columns: int) -> np.ndarray:
    """An even grey image."""
    return np.full((rows, columns, 3), 128, np.uint8)


def has_colour(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(h, w) where an image has exactly this colour."""
    return (image == colour).all(axis=-1)


def at(image: np.ndarray, point: np.ndarray) -> tuple[int, int, int]:
    """The colour at x, y."""
    column, row = np.round(point).astype(int)
    return tuple(image[row, column].tolist())


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """First and last row, first and last column of a mask's pixels."""
    rows, columns = np.nonzero(mask)
    return rows.min(), rows.max(), columns.min(), columns.max()


def write_image(path: Path, image: np.ndarray = NOISE) -> Path:
    """Write an image in the format of the path's suffix; makes its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = image[..., [2, 1, 0, 3][: image.shape[2]]] if image.ndim == 3 else image
    path.write_bytes(cv2.imencode(path.suffix, bgr)[1].tobytes())
    return path


def with_gap(content: bytes) -> bytes:
    """A JPEG that lacks the end of its data but not its last marker: it is read, and the decoder warns."""
    return content[:-200] + content[-2:]


def read_rgb(path: Path) -> np.ndarray:
    """An image as OpenCV alone reads it."""
    return cv2.imread(str(path))[..., ::-1]


def write_video(path: Path, frames: list[np.ndarray], rate: float = 10) -> Path:
    """Write frames of one size as a video in MJPG."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, frames[0].shape[1::-1])
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def noisy_video(path: Path, frames: int = 12) -> Path:
    """Write a video whose frames all differ, each of about the same length in the file."""
    rng = np.random.default_rng(1)
    return write_video(path, [rng.integers(0, 256, NOISE.shape, np.uint8) for _ in range(frames)])


def read_video(path: Path) -> list[np.ndarray]:
    """All frames that can be read."""
    video, frames = cv2.VideoCapture(str(path)), []
    while (read := video.read())[0]:
        frames.append(read[1][..., ::-1])
    return frames
