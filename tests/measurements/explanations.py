"""Measure whether the maps of `predict.py --explain` lie on the head, and draw the two figures of the documents.

    python tests/measurements/explanations.py --weights FILE

Writes doc/explanations.md with its marked parts replaced, doc/grad_cam.png and doc/architecture.png.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from data_loaders import AXES, crop
from util import figures
from util.errors import InputError
from util.explain import RULES, SIDE, Explainer, explanation_tiles
from util.head_renderer import random_identity, render_head
from util.inference import predict_angles
from util.metrics import mean_with_interval
from util.provenance import environment, sha256, write_text
from util.script import number, option_parser, run_script
from util.tables import table

MARGIN = 0.2
LIMITS = (60, 40, 40)  # degrees of yaw, pitch, roll
BATCH = 10  # crops explained at a time
NAMES = {"local": "|L|", "absolute": "|M|", "towards": "M · sign(angle) above 0", "positive": "M above 0"}  # of RULES

Measured = dict[str, np.ndarray]  # rule → (n, 3), a column for each axis


# --- Measuring --------------------------------------------------------------------------------------------------------
def synthetic_crops(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops (count, 224, 224, 3) of synthetic heads, each of another person, and masks (count, 224, 224) of the heads.

    Yaw, pitch and roll are uniform within LIMITS.
    """
    crops, masks = [], []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        angles = np.radians(rng.uniform(np.negative(LIMITS), LIMITS))
        image, facts = render_head(random_identity(rng), angles, rng=rng)
        crops.append(crop(image, *facts["box"], MARGIN))
        mask = np.repeat(facts["mask"][..., None].astype(np.uint8) * 255, 3, axis=2)
        masks.append(crop(mask, *facts["box"], MARGIN)[..., 0] > 127)
    return np.stack(crops), np.stack(masks)


def share_inside(heat: np.ndarray, mask: np.ndarray) -> float:
    """The share of a map (7, 7) inside a mask, to whose size it is enlarged; for an empty map, the mask's share."""
    heat = cv2.resize(heat.astype(np.float32), mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return heat[mask].sum() / heat.sum() if heat.sum() > 0 else mask.mean()


def maps_of(model: Any, crops: np.ndarray) -> dict[str, np.ndarray]:
    """Grad-CAM of n crops: rule → (n, 3, 7, 7)."""
    explainer, found = Explainer(model), {rule: [] for rule in RULES}
    for start in range(0, len(crops), BATCH):
        part = crops[start : start + BATCH]
        explanation, angles = explainer(part), predict_angles(model, part)
        for rule, maps in found.items():
            maps.append(np.stack([explanation.cam(axis, angles, rule) for axis in AXES], axis=1))
    return {rule: np.concatenate(maps) for rule, maps in found.items()}


def measure_shares(maps: dict[str, np.ndarray], masks: np.ndarray) -> Measured:
    """How much of each map lies inside its head's mask."""
    return {
        rule: np.array([[share_inside(heat, mask) for heat in row] for row, mask in zip(found, masks, strict=True)])
        for rule, found in maps.items()
    }


def occlusion_effect(model: Any, image: np.ndarray) -> np.ndarray:
    """(3, 49) radians: how much each angle changes when one cell's 32 × 32 pixels take the crop's mean colour."""
    side = image.shape[0] // SIDE
    covered = np.repeat(image[None], SIDE**2 + 1, axis=0)  # the last one stays as it is
    for cell in range(SIDE**2):
        row, column = (side * place for place in divmod(cell, SIDE))
        covered[cell, row : row + side, column : column + side] = image.mean(axis=(0, 1))
    angles = predict_angles(model, covered)
    return np.abs(angles[:-1] - angles[-1]).T


def measure_agreement(maps: dict[str, np.ndarray], effects: Iterable[np.ndarray]) -> Measured:
    """Spearman's rank correlation of each map with the head's `occlusion_effect`; 0 where one of them is constant."""
    from scipy.stats import spearmanr

    def agreement(heat: np.ndarray, effect: np.ndarray) -> float:
        return spearmanr(heat.ravel(), effect)[0] if np.ptp(heat) > 0 and np.ptp(effect) > 0 else 0.0

    effects = list(effects)
    return {
        rule: np.array(
            [[agreement(*pair) for pair in zip(*head, strict=True)] for head in zip(found, effects, strict=True)]
        )
        for rule, found in maps.items()
    }


# --- The document -----------------------------------------------------------------------------------------------------
def text_of(values: np.ndarray, form: str) -> str:
    """Mean and 95% interval of (n,) values, each in a format such as ".1%"."""
    value, low, high = (f"{part:{form}}" for part in mean_with_interval(values)[:3])
    return f"{value} [{low}, {high}]"


def rows_of(network: str, measured: Measured, show: Callable[[np.ndarray], str]) -> list[list[str]]:
    """Rows of a table: network, rule, and for each axis what `show` makes of its values (n,)."""
    return [[network, f"{rule}: {NAMES[rule]}", *map(show, values.T)] for rule, values in measured.items()]


def measured_parts(trained: Measured, untrained: Measured, areas: np.ndarray, agreement: Measured) -> dict[str, str]:
    """The tables of doc/explanations.md by the names of their marks; areas: (n,) shares of the masks."""
    header = ["Network", "Map", *AXES]

    def share(values: np.ndarray) -> str:
        return f"{text_of(values, '.1%')}; {(values > areas).sum()} of {len(areas)}"

    gains = [
        [axis, text_of(drawn - areas, "+.1%"), text_of(drawn - chance, "+.1%")]
        for axis, drawn, chance in zip(AXES, trained["local"].T, untrained["local"].T, strict=True)
    ]
    return {
        "area": f"Head, hair and ears cover {text_of(areas, '.1%')} of the crop.",
        "shares": table(header, rows_of("trained", trained, share) + rows_of("untrained", untrained, share)),
        "gains": table(["Axis", "More than the mask's share of the crop", "More than the untrained network"], gains),
        "agreement": table(header, rows_of("trained", agreement, lambda values: text_of(values, ".2f"))),
    }


def with_parts(text: str, parts: dict[str, str]) -> str:
    """A document with the text between `<!-- measured: NAME -->` and `<!-- /measured -->` replaced by each part."""
    for name, part in parts.items():
        mark = re.compile(rf"(<!-- measured: {name} -->\n).*?(\n<!-- /measured -->)", re.DOTALL)
        if len(mark.findall(text)) != 1:
            raise InputError(f"the document needs '<!-- measured: {name} -->' and '<!-- /measured -->' once")
        text = mark.sub(lambda found, part=part: found[1] + part + found[2], text)
    return text


# --- The figures ------------------------------------------------------------------------------------------------------
def grad_cam_figure(model: Any, seed: int, heads: int = 3) -> np.ndarray:
    """Grad-CAM of synthetic heads: a row for each head, a column for the crop and one for each axis."""
    crops, _ = synthetic_crops(heads, seed)
    found, angles, tiles = Explainer(model)(crops), predict_angles(model, crops), []
    for index, image in enumerate(crops):
        tiles += [("input crop", image), *explanation_tiles(image, found, angles, index)["gradcam"].values()]
    titles, images = zip(*tiles, strict=True)
    footnote = (
        f"Synthetic heads, margin {MARGIN}. The angles are the network's answers. Grad-CAM (|L|, see "
        "doc/explanations.md) of the output of each branch's self-attention; each map is stretched on its own, bright: "
        "most."
    )
    title = "Grad-CAM: which cells move which angle"
    return figures.panel(images, titles, 1 + len(AXES), title=title, footnote=footnote, tile=200)


def architecture_stages(model: Any) -> tuple[list, list]:
    """(trunk, branch) of a RAFA-Net: (label, shape without the batch) of each stage, read from its layers."""
    axis = AXES[0]

    def shape(name: str) -> tuple[int, ...]:
        found = model.get_layer(name).output
        return tuple((found[0] if isinstance(found, list | tuple) else found).shape[1:])

    blocks = [layer.name for layer in model.layers if re.fullmatch(rf"(conv\d|{axis}_conv5)_.*_out", layer.name)]
    last = {name.removeprefix(f"{axis}_")[:5]: name for name in blocks}  # stage → its last block
    trunk = [("RGB crop", shape("crop")), ("conv1", shape("conv1_relu"))]
    trunk += [(stage, shape(name)) for stage, name in sorted(last.items()) if stage != "conv5"]
    names = {"self-attention": "self_attention", "coarse-to-fine pooling": "regions"}
    names |= {"attentional pooling": "attentional_pooling", "weighted attention": "weighted_attention"}
    return trunk, [("conv5", shape(last["conv5"])), *((label, shape(f"{axis}_{n}")) for label, n in names.items())]


# --- The script -------------------------------------------------------------------------------------------------------
def parse_options() -> argparse.Namespace:
    parser = option_parser(__doc__)
    parser.add_argument("--weights", required=True, metavar="FILE", help="the network: .keras or .weights.h5")
    parser.add_argument("--doc", default=str(ROOT / "doc"), metavar="DIR", help="folder to write to (default: doc)")
    parser.add_argument("--heads", type=number(int, 2), default=50, help="synthetic heads to measure on")
    parser.add_argument("--seed", type=number(int, 0), default=2020, help="of the synthetic heads")
    return parser.parse_args()


def main() -> None:
    from rafa_model import build_rafa_net, load_rafa_net
    from util.backend import keras

    options = parse_options()
    command = f"python tests/measurements/explanations.py --weights {Path(options.weights).name}"
    made = environment(f"{command} --heads {options.heads} --seed {options.seed}")  # first: it looks for changed files
    model, (crops, masks) = load_rafa_net(options.weights), synthetic_crops(options.heads, options.seed)
    keras.utils.set_random_seed(options.seed)
    untrained = build_rafa_net(model.name.removeprefix("rafa_net_"), weights=None)
    maps = maps_of(model, crops)
    shares, control = measure_shares(maps, masks), measure_shares(maps_of(untrained, crops), masks)
    agreement = measure_agreement(maps, (occlusion_effect(model, image) for image in crops))
    parts = measured_parts(shares, control, masks.mean(axis=(1, 2)), agreement)
    parts["command"] = (
        f"`{made['command']}`, {made['date'][:10]}, commit {made['commit']}, weights SHA-256 {sha256(options.weights)}."
    )
    text = with_parts((ROOT / "doc" / "explanations.md").read_text(encoding="utf-8"), parts)
    write_text(Path(options.doc) / "explanations.md", text)
    figures.save_image(grad_cam_figure(model, options.seed + 1), Path(options.doc) / "grad_cam.png")
    title = "RAFA-Net with ResNet-50: one trunk, one branch for each rotation axis"
    stages = architecture_stages(build_rafa_net("resnet50", weights=None))
    figures.draw_architecture(Path(options.doc) / "architecture.png", *stages, title)


if __name__ == "__main__":
    run_script(main)
