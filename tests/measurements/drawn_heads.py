"""Compare drawn heads with photographs of AFLW2000, to see what the drawing lacks.

    python tests/measurements/drawn_heads.py --data-dir data
    python tests/measurements/drawn_heads.py --data-dir data --means means.png

Prints what a network answers to the photographs and to heads drawn at their poses, and what one change of the drawing
does to its answers.  --means writes the mean photograph beside the mean drawn head, both placed by their labels: it
shows real people, so keep it out of the repository.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scipy.io import loadmat
from scipy.spatial.transform import Rotation

from data_loaders import Listed, crop, listed_image, load_crop, load_dataset
from rafa.datasets.annotations import annotation_path
from rafa.datasets.check import keep_present
from rafa.datasets.lists import image_path
from rafa.heads.augmentation import MIRRORED
from rafa.heads.dataset import random_framing
from rafa.heads.head import head_surface
from rafa.heads.renderer import Identity, Scene, random_identity, random_scene, render_head
from rafa.media.drawing import save_image
from rafa.net.inference import predict_angles
from rafa.net.pretrained import SYNTHETIC, weights_file
from rafa.pose import rotation_matrix
from rafa.score.tables import table
from rafa.script import option_parser, progress, run_script

MARGIN = 0.2
YAWS = ((0, 30), (30, 60), (60, 100))
EVERY = 3  # of the poses is drawn
MEANS = (((0, 12), 0), ((22, 45), 33), ((55, 90), 72))  # ranges of |yaw|, and the yaw at which their mean is shown
SIDE, PER_CM, CENTRE = 480, 17.0, (240.0, 190.0)  # of a mean image: pixels, pixels per cm, the head's origin
Change = Callable[[Identity, Scene], tuple[Identity, Scene]]


def of_person(**features: Any) -> Change:
    """A change of everybody's features."""
    return lambda person, scene: (replace(person, **features), scene)


def of_light(**light: Any) -> Change:
    """A change of every light."""
    return lambda person, scene: (person, replace(scene, second_tint=(0.0, 0.0, 0.0), **light))


CHANGES: dict[str, Change] = {
    "as drawn": of_person(),
    "light from above": of_light(light=(0.1, -0.9, 0.42)),
    "light from the camera": of_light(light=(0.0, 0.0, 1.0)),
    "light from below": of_light(light=(0.1, 0.7, 0.7)),
    "bald": of_person(style="bald"),
    "long hair": of_person(style="long"),
    "full beard": of_person(beard=1.0, beard_kind="full"),
    "mouth wide open": of_person(opening=2.5),
    "broad smile": of_person(smile=1.0, opening=0.6, teeth=0.27),
    "nose 30% higher": of_person(nose_height=1.3),
    "head 10% wider": of_person(width=1.1),
}


def answers_to_drawn(model: Any, angles: np.ndarray, change: Change) -> np.ndarray:
    """The angles (n, 3) in radians that a network answers to heads drawn at (n, 3) angles."""
    crops = []
    for number, pose in enumerate(angles):
        rng = np.random.default_rng(number)
        person, scene = change(random_identity(rng), replace(random_scene(rng), companions=(), props=()))
        image, facts = render_head(person, pose, scene=scene, rng=rng, **random_framing(rng))
        crops.append(crop(image, *facts["box"], MARGIN))
    return predict_angles(model, np.stack(crops))


def turns(true: np.ndarray, answered: np.ndarray) -> np.ndarray:
    """How each answer is turned against the truth, (n, 3) degrees about the head's axes: the ears, down, the nose.

    Of heads that look to the right of the image, the last two are mirrored.
    """
    between = np.swapaxes(rotation_matrix(true), 1, 2) @ rotation_matrix(answered)
    vectors = Rotation.from_matrix(between).as_rotvec(degrees=True)
    vectors[true[:, 0] < 0] *= (1, -1, -1)
    return vectors


def row_of(name: str, true: np.ndarray, answered: np.ndarray) -> list[str]:
    """Medians of `turns` in ranges of |yaw|."""
    yaw, vectors = np.abs(np.degrees(true[:, 0])), turns(true, answered)
    medians = [np.median(vectors[(low <= yaw) & (yaw < high)], axis=0) for low, high in YAWS]
    return [name, *(" / ".join(f"{value:+.1f}" for value in median) for median in medians)]


# --- Mean images ------------------------------------------------------------------------------------------------------
def placed(image: np.ndarray, seen: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The image moved, turned and scaled so that the inner landmarks `seen` (2, 68) lie nearest to `wanted`."""
    (a, b), (p, q) = (points[:, 17:] - points[:, 17:].mean(axis=1, keepdims=True) for points in (seen, wanted))
    cosine, sine = (a * p + b * q).sum() / (a**2 + b**2).sum(), (a * q - b * p).sum() / (a**2 + b**2).sum()
    linear = np.array([[cosine, -sine], [sine, cosine]])
    shift = wanted[:, 17:].mean(axis=1) - linear @ seen[:, 17:].mean(axis=1)
    return cv2.warpAffine(image, np.column_stack([linear, shift]), (SIDE, SIDE), borderMode=cv2.BORDER_REPLICATE)


def mean_pair(listed: Listed, yaws: tuple[int, int], shown: int) -> np.ndarray:
    """The mean of the photographs in a range of |yaw|, and that of as many drawn heads at their poses, side by side."""
    base = head_surface(Identity())[1]
    wanted = (rotation_matrix((np.radians(shown), 0, 0)) @ base)[:2] * PER_CM + np.array(CENTRE)[:, None]
    sums, rng = [np.zeros((SIDE, SIDE, 3)), np.zeros((SIDE, SIDE, 3))], np.random.default_rng(0)
    yaw = np.abs(np.degrees(listed.records["angles"][:, 0]))
    chosen = listed.records[(yaws[0] <= yaw) & (yaw < yaws[1])]
    for record in chosen:
        photograph, angles = listed_image(listed, record), record["angles"]
        points = loadmat(annotation_path(image_path(listed, record)))["pt3d_68"][:2]
        if angles[0] < 0:
            photograph, angles = photograph[:, ::-1], angles * (-1, 1, -1)
            points = points[:, MIRRORED] * [[-1], [1]] + [[photograph.shape[1] - 1], [0]]
        drawn, facts = render_head(random_identity(rng), angles, rng=rng, scale=PER_CM, centre=(225, 190))
        sums[0] += placed(np.ascontiguousarray(photograph), points, wanted)
        sums[1] += placed(drawn, facts["landmarks"][:2], wanted)
    return np.hstack(sums) / max(len(chosen), 1)


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--data-dir", default="data", help="folder with lists and AFLW2000")
    parser.add_argument("--weights", default=SYNTHETIC, help="of the network that is asked")
    parser.add_argument("--means", metavar="FILE", help="write the mean images; not into the repository")
    options = parser.parse_args()
    from rafa_model import load_rafa_net

    listed = keep_present(load_dataset("aflw2000", options.data_dir), allow_missing=True)
    if options.means:
        save_image(np.vstack([mean_pair(listed, *each) for each in MEANS]).astype(np.uint8), options.means)
    model, true = load_rafa_net(weights_file(options.weights)), listed.records["angles"]

    def rows() -> Iterator[list[str]]:
        photographs = np.stack([load_crop(listed, record, MARGIN) for record in listed.records])
        yield row_of("photographs", true, predict_angles(model, photographs))
        for name, change in progress(CHANGES.items(), len(CHANGES), "drawing"):
            yield row_of(f"drawn: {name}", true[::EVERY], answers_to_drawn(model, true[::EVERY], change))

    columns = [f"yaw {low}° to {min(high, 99)}°" for low, high in YAWS]
    print("Median turn of the answers against the truth, degrees about the ears / down / the nose of the head")
    print(table(["", *columns], list(rows())))


if __name__ == "__main__":
    run_script(main)
