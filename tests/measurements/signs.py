"""The figure of doc/conventions.md: a synthetic head turned by each angle alone, both ways, with its axes.

    python tests/measurements/signs.py

The same head each time, with the axes that `rafa.media.drawing` draws.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rafa.files import ROOT
from rafa.heads.renderer import render_head
from rafa.heads.scene import Scene
from rafa.heads.shape import random_identity
from rafa.media.drawing import draw_axes, save_image
from rafa.media.panels import panel
from rafa.pose import AXES
from rafa.script import option_parser, run_script

SIDE, ANGLE = 190, 30  # pixels, degrees
TURNS = {  # axis → what a positive and a negative angle do
    "yaw": ("the nose turns to the left", "the nose turns to the right"),
    "pitch": ("the head looks up", "the head looks down"),
    "roll": ("the head tilts counter-clockwise", "the head tilts clockwise"),
}
NOTE = "Left, right and clockwise as seen in the image.  Orange: the head's own left; green: its chin; blue: its nose."


def signs_figure(seed: int = 14) -> np.ndarray:
    """RGB image: one column for each axis, the positive angle above the negative one."""
    person, tiles, captions = replace(random_identity(np.random.default_rng(seed)), style="short"), [], []
    wall = np.full((SIDE, SIDE, 3), (205, 212, 218), np.uint8)
    scene = Scene(wall, (-0.4, -0.5, 0.77), 0.55, 0.0, (1.0, 1.0, 1.0), 0.5, 0.0, grey=False)
    for side, sign in enumerate((1, -1)):
        for axis in AXES:
            angles = np.radians(sign * ANGLE) * (np.array(AXES) == axis)
            image, _ = render_head(person, angles, size=SIDE, scale=SIDE / 34, scene=scene)
            tiles.append(draw_axes(image, angles, ((SIDE - 1) / 2, (SIDE - 1) / 2), SIDE * 0.36))
            captions.append(f"{axis} = {sign * ANGLE:+}°: {TURNS[axis][side]}")
    return panel(tiles, captions, len(AXES), footnote=NOTE, tile=SIDE, below=True)


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--out", default=str(ROOT / "doc" / "conventions.jpg"), metavar="FILE", help="the figure")
    save_image(signs_figure(), parser.parse_args().out)


if __name__ == "__main__":
    run_script(main)
