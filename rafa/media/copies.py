"""Copies of images and videos with the poses drawn on them."""

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from rafa.files import written_whole
from rafa.media.drawing import draw_pose, save_image
from rafa.media.sources import Frame

CODEC = "libvpx-vp9"  # in WebM: every browser plays it
CODEC_OPTIONS = {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "crf": "25", "b": "0"}
TICK = Fraction(1, 1000)  # seconds: the clock of WebM


class DrawnVideo:
    """Writes a video in WebM, each frame at its own time; it has its name once it is whole.

    Args:
        file: the video; its folder is made.
        rate: usual frames per second.
        shape: of the first frame; PyAV resizes others to it.

    Raises:
        OSError: of all methods: the video cannot be written there, or not all of it.
    """

    def __init__(self, file: Path, rate: float, shape: tuple[int, ...]) -> None:
        import av

        self.file, self.ticks = file, -1
        self.unfinished = contextlib.ExitStack()
        self.video = av.open(f"file:{self.unfinished.enter_context(written_whole(file))}", "w", format="webm")
        stream: Any = self.video.add_stream(CODEC, rate=min(round(rate), 1000), options=CODEC_OPTIONS)
        stream.height, stream.width = shape[:2]
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", TICK
        self.stream = stream

    def write(self, image: np.ndarray, seconds: float) -> None:
        """Add a frame, (h, w, 3) uint8 RGB, at its time; a tick after the last where that has passed."""
        import av

        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        self.ticks = max(self.ticks + 1, round(seconds * 1000))
        frame.pts, frame.time_base = self.ticks, TICK
        self.video.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Finish the video; where that fails, there is none."""
        with self.unfinished:
            self.video.mux(self.stream.encode(None))
            self.video.close()


class DrawnCopies:
    """Writes copies of images and videos into a folder, with the poses drawn on them."""

    def __init__(self, folder: str, style: str) -> None:
        self.folder, self.style = Path(folder), style
        self.video: DrawnVideo | None = None  # that is being written

    def write(self, frame: Frame) -> None:
        """Add a frame; one that could not be read is left out."""
        if frame.image is None:
            return
        drawn, target = frame.image, self.folder / frame.source.copy
        for face in frame.faces:
            drawn = draw_pose(drawn, face.box, face.angles, self.style)
        if frame.seconds is None:
            save_image(drawn, target)
            return
        if not self.video or self.video.file != target:
            self.close()
            self.video = DrawnVideo(target, frame.rate, drawn.shape)
        self.video.write(drawn, frame.seconds)

    def close(self) -> None:
        """Finish the video that is being written."""
        video, self.video = self.video, None
        if video:
            video.close()
