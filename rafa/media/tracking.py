"""Follow faces through a video, and smooth their angles by a One-Euro filter.

The filter (Casiez, Roussel and Vogel, CHI 2012) is a low pass whose cut-off frequency grows with the speed of what it
follows: a still head is smoothed much, a moving one is delayed little.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from rafa.datasets.rows import Box
from rafa.media.detectors import SAME_FACE, overlap
from rafa.media.sources import Frame

STILL_HERTZ = 0.5  # cut-off frequency of a head that does not move; less is smoother
HERTZ_PER_SPEED = 4.0  # what each radian per second adds to it; more follows faster
SPEED_HERTZ = 1.0  # cut-off frequency of the speed itself
LOST_SECONDS = 1.0  # a face that was not seen for longer is a new one


class OneEuro:
    """Smooths angles; called with one measurement after another.

    Differences are taken the short way round, so that a head may turn from 180 to -180 degrees.
    """

    def __init__(self) -> None:
        self.seconds = -np.inf
        # The last measurement, what it was smoothed to, and its speed.
        self.measured = self.angles = self.speed = np.zeros(0)

    def __call__(self, angles: np.ndarray, seconds: float) -> np.ndarray:
        """The smoothed angles, (n,) in radians; a time that does not advance leaves them as they are."""
        if not self.angles.size:
            self.seconds, self.measured, self.angles, self.speed = seconds, angles, angles, np.zeros_like(angles)
        step = seconds - self.seconds
        if step > 0:
            speed = _wrapped(angles - self.measured) / step
            self.speed = self.speed + _share(SPEED_HERTZ, step) * (speed - self.speed)
            share = _share(STILL_HERTZ + HERTZ_PER_SPEED * np.abs(self.speed), step)
            self.angles = _wrapped(self.angles + share * _wrapped(angles - self.angles))
            self.seconds, self.measured = seconds, angles
        return self.angles


def _share(hertz: float | np.ndarray, step: float) -> float | np.ndarray:
    """How much of a difference a low pass of this cut-off frequency takes over after `step` seconds."""
    return 1 / (1 + 1 / (2 * np.pi * hertz * step))


def _wrapped(angles: np.ndarray) -> np.ndarray:
    """The same directions from -π to below π."""
    return (angles + np.pi) % (2 * np.pi) - np.pi


@dataclass
class Track:
    """A face that was seen before."""

    number: int
    box: Box
    seconds: float
    smooth: OneEuro = field(default_factory=OneEuro)


class Tracks:
    """The faces of one video."""

    def __init__(self) -> None:
        self.tracks: list[Track] = []
        self.count = 0

    def update(self, boxes: list[Box], seconds: float) -> list[Track]:
        """The track of each box of the next frame: those that overlap most are the same face, others are new ones."""
        known = [track for track in self.tracks if seconds - track.seconds <= LOST_SECONDS]
        shares = {(i, j): overlap(box, track.box) for i, box in enumerate(boxes) for j, track in enumerate(known)}
        found: dict[int, Track] = {}
        taken: set[int] = set()
        for (i, j), share in sorted(shares.items(), key=lambda item: -item[1]):
            if share >= SAME_FACE and i not in found and j not in taken:
                found[i] = known[j]
                taken.add(j)
        for i, box in enumerate(boxes):
            if i not in found:
                found[i] = Track(self.count, box, seconds)
                known.append(found[i])
                self.count += 1
            found[i].box, found[i].seconds = box, seconds
        self.tracks = known
        return [found[i] for i in range(len(boxes))]


def smoothed(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Yield the frames; each face of a video gets the number of its track, and smoothed angles."""
    tracks, source = Tracks(), None
    for frame in frames:
        if frame.source != source:
            tracks, source = Tracks(), frame.source
        if frame.seconds is not None:
            for face, track in zip(
                frame.faces, tracks.update([face.box for face in frame.faces], frame.seconds), strict=True
            ):
                face.number, face.angles = track.number, track.smooth(face.angles, frame.seconds)
        yield frame
