"""Images and videos as a player shows them: turned and mirrored as their files ask, with square pixels, in RGB.

Images are read by Pillow, videos and streams by FFmpeg through PyAV.
"""

import functools
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from rafa.script import InputError

# Pillow's names.  Others that it reads are left out: a GIF is a video, and of raw files it reads the preview.
FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "BMP", "PPM", "JPEG2000", "SUN")
LARGEST_IMAGE = 200_000_000  # pixels: those of the largest phone sensors; Pillow's own limit is 179 million
MAGIC = 64  # bytes of a file that tell its format
BITS_PER_SAMPLE, WHITE_IS_ZERO = 0x0102, 0x0106  # TIFF
USUAL_RATE = 30.0  # frames per second where a video's are not known
CUT_OFF = 0.5  # seconds, or a tenth of a short video: one that ends so much before its announced end was cut off
PATIENCE = 30.0  # seconds to wait for a stream


# --- Images -----------------------------------------------------------------------------------------------------------
@functools.cache
def _load_readers() -> None:
    """All readers of Pillow, and one for HEIC."""
    from pillow_heif import register_heif_opener

    Image.init()
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, LARGEST_IMAGE)
    register_heif_opener()


def is_image(start: bytes) -> bool:
    """Whether a file that starts with these bytes, MAGIC at least, is an image of one of FORMATS."""
    _load_readers()
    accepts = (Image.OPEN[name][1] for name in FORMATS)
    return any(accept is not None and accept(start) is True for accept in accepts)


def decode_image(content: bytes) -> np.ndarray:
    """The first image of a file, (h, w, 3) uint8 RGB.

    Raises:
        InputError: not an image that can be decoded, or one of more than LARGEST_IMAGE pixels.
    """
    _load_readers()
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > LARGEST_IMAGE:
                size = f"{image.width:,} × {image.height:,} pixels"
                raise InputError(f"an image of {size}; expected at most {LARGEST_IMAGE:,}: make it smaller")
            return np.array(ImageOps.exif_transpose(_eight_bits(image, content)).convert("RGB"))
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError("not an image that can be read; convert it to JPEG or PNG") from error
    except Exception as error:  # Pillow's many readers, and the libraries below them, raise whatever comes
        raise InputError(f"the image is damaged or cut off: {error}; get the file again") from error


def _eight_bits(image: Any, content: bytes) -> Image.Image:
    """An image itself; one that may have 16 bits, whose colours Pillow would cut to their upper 8, by OpenCV, turned.

    Cameras of machines put 10 or 12 bits into files of 16: where all values fit into those, they are the whole range.
    """
    if image.format == "PNG":
        bits = content[24]
    elif image.format == "TIFF":
        bits = max(image.tag_v2.get(BITS_PER_SAMPLE, (8,)))
        if 8 < bits != 16 or (bits == 16 and image.tag_v2.get(WHITE_IS_ZERO) == 0):
            raise InputError(f"a TIFF of {bits} bits or with white as 0; convert it to 8 bits a channel")
    elif image.format == "PPM":
        bits = 16 if image.tile[0][3] in ("I;16B", ("RGB", 65535)) else 8  # another largest value is Pillow's white
        if bits == 8 and image.mode == "I":  # but in 16 bits
            return Image.fromarray((np.array(image) // 256).astype(np.uint8))
    else:
        bits = 16 if image.format == "JPEG2000" else 8  # 16 or fewer
    if bits != 16:
        return image
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise InputError("the image is damaged, or of a kind that OpenCV does not read; convert it to 8 bits a channel")
    if pixels.dtype == np.uint16:
        bits = next(bits for bits in (10, 12, 16) if pixels.max() < 2**bits)
        pixels = (pixels // 2 ** (bits - 8)).astype(np.uint8)
    return Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))


# --- Videos -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Shown:
    """A frame of a video: its pixels (h, w, 3) uint8 RGB, seconds since the beginning, and the video's usual rate."""

    image: np.ndarray
    seconds: float
    rate: float


def read_video(file: Any, address: bool = False) -> Iterator[Shown]:
    """The frames of a video in their order.

    Args:
        file: a path, an address, or an open binary file, such as a pipe.
        address: of a stream; where it has no end, gaps are no reason to complain.

    Raises:
        InputError: not a video; after the last frame that could be read, that the video is damaged or cut off.
    """
    import av

    count = 0
    try:
        with av.open(file, timeout=PATIENCE if address else None, metadata_errors="replace") as container:
            film = _Film(container)
            for shown in film.shown():
                count += 1
                yield shown
            if film.is_damaged() and (container.duration or not address):
                raise InputError("the video is damaged or cut off: get the file again")
    except (av.FFmpegError, OSError) as error:
        what = f"it could not be read beyond {count:,} frames" if count else "not a video or image that can be read"
        raise InputError(f"{what}: {error.strerror or error}") from error
    if not count:
        raise InputError("it holds no frame that can be read")


class _Film:
    """The video of a container that PyAV has opened."""

    def __init__(self, container: Any) -> None:
        self.container, self.stream = container, container.streams.best("video")
        if self.stream is None:
            raise InputError("it holds no video")
        self.stream.thread_type = "SLICE"  # with threads for frames, FFmpeg does not mark all corrupt ones
        self.end = 0.0  # seconds at the end of the last packet
        self.begun, self.damaged = False, False  # whether a frame was whole, and something after it not

    def shown(self) -> Iterator[Shown]:
        """The frames as they are shown."""
        import av

        rate = float(self.stream.average_rate or self.stream.guessed_rate or USUAL_RATE)
        start, seconds = self.container.start_time, -1 / rate
        start = None if start is None else start / av.time_base
        matrix: np.ndarray | None = None
        for number, frame in enumerate(self.frames()):
            if number == 0:  # of the video: that of each frame would keep the frame until Python looks for garbage
                matrix = _display_matrix(frame)
            if frame.time is None:
                seconds += 1 / rate
            else:
                start = frame.time if start is None else start
                seconds = max(0.0, frame.time - start)
            yield Shown(_upright(frame, self.stream.sample_aspect_ratio, matrix), seconds, rate)

    def frames(self) -> Iterator[Any]:
        """PyAV's whole frames; what cannot be decoded is left out, as are the first ones of a recording begun late."""
        import av

        try:
            for packet in self.container.demux():  # of every kind: a sound that goes on is no cut
                if packet.pts is not None:
                    self.end = max(self.end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                self.damaged |= packet.is_corrupt
                if packet.stream_index == self.stream.index:
                    try:
                        yield from self.whole(packet.decode())
                    except av.InvalidDataError:
                        self.damaged = True
        except OSError:  # the connection broke: the decoder still holds some frames
            rest = self.stream.decode(None)
            for frame in rest:
                frame.time_base = self.stream.time_base
            yield from self.whole(rest)
            raise

    def whole(self, frames: list[Any]) -> Iterator[Any]:
        """Those of which no part is missing."""
        for frame in frames:
            if frame.is_corrupt:
                self.damaged |= self.begun
            else:
                self.begun = True
                yield frame

    def is_damaged(self) -> bool:
        """Whether something could not be read, or the container announces more than came."""
        import av

        start, duration = (
            (value or 0) / av.time_base for value in (self.container.start_time, self.container.duration)
        )
        return self.damaged or self.end < start + duration - min(CUT_OFF, duration / 10)


def _upright(frame: Any, aspect: Any, matrix: np.ndarray | None) -> np.ndarray:
    """A frame's pixels in RGB, made square and turned as a display matrix asks.

    The matrix has rows (a, b, u), (c, d, v), (x, y, w): a pixel (column, row) is shown at (a column + c row, b column +
    d row), up to a shift.
    """
    image = frame.to_ndarray(format="rgb24", width=max(1, round(frame.width * (aspect or 1))), height=frame.height)
    if matrix is None:
        return image
    (a, b), (c, d) = matrix[0, :2], matrix[1, :2]
    if abs(b) > abs(a):
        image, across, down = image.transpose(1, 0, 2), c, b
    else:
        across, down = a, d
    return np.ascontiguousarray(image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])


def _display_matrix(frame: Any) -> np.ndarray | None:
    """(3, 3) how a frame wants to be turned, see `_upright`; None where it does not."""
    try:
        data = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # PyAV does not know every kind of side data, such as EXIF
        return None
    return None if data is None else np.frombuffer(bytes(data), np.int32).reshape(3, 3)
