"""Images and videos for tests, in RGB."""

from fractions import Fraction
from pathlib import Path
from typing import Any

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


def write_film(
    path: Path,
    frames: list[np.ndarray],
    seconds: list[float],
    matrix: Any = None,
    aspect: Any = 1,
    index_first: bool = True,
) -> Path:
    """Write frames at given times, almost lossless, as PyAV does in the format of the path's suffix.

    Args:
        matrix: nine numbers, as the container stores them: a, b, 0, c, d, 0, x, y, 1.
        aspect: of the pixels, width ÷ height.
        index_first: of an MP4, whose index otherwise follows the frames.
    """
    import av

    options = {"movflags": "faststart"} if path.suffix == ".mp4" and index_first else {}
    with av.open(str(path), "w", options=options) as film:
        stream = film.add_stream("libx264", rate=10, options={"crf": "1", "g": "5"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.sample_aspect_ratio = "yuv444p", aspect
        stream.codec_context.time_base = Fraction(1, 1000)
        if matrix is not None:
            stream.set_display_matrix([value * (2**30 if k % 3 == 2 else 2**16) for k, value in enumerate(matrix)])
        for image, time in zip(frames, seconds, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            film.mux(stream.encode(frame))
        film.mux(stream.encode(None))
    return path


def read_video(path: Path) -> list[np.ndarray]:
    """All frames that OpenCV can read."""
    video, frames = cv2.VideoCapture(str(path)), []
    while (read := video.read())[0]:
        frames.append(read[1][..., ::-1])
    return frames


def times_of(path: Path) -> list[float]:
    """Seconds of the frames of a video."""
    import av

    with av.open(str(path)) as video:
        return [frame.time for frame in video.decode(video=0)]
