"""Measure whether the maps of `predict.py --explain` lie on the head, and draw the two figures of the documents.

    python tests/measurements/explanations.py --weights FILE

Writes doc/explanations.md with its marked parts replaced, doc/grad_cam.png and doc/architecture.png.
"""

import itertools
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from documents import write_parts

from data_loaders import crop
from rafa.files import ROOT, environment, sha256, written_whole
from rafa.heads.renderer import render_head
from rafa.heads.shape import random_identity
from rafa.media.panels import explanation_tiles, panel
from rafa.net.explain import RULES, SIDE, Explainer
from rafa.net.inference import predict_angles
from rafa.pose import AXES, AXIS_COLOURS, GREY, Colour
from rafa.score import plots
from rafa.score.metrics import summarise
from rafa.score.tables import table
from rafa.script import number, option_parser, run_script

MARGIN = 0.2
LIMITS = (60, 40, 40)  # degrees of yaw, pitch, roll
BATCH = 10  # crops explained at a time
NAMES = {"local": "|L|", "grad-cam": "M above 0"}  # of RULES

FOOTNOTE = (
    "Synthetic heads, margin {margin}. The angles are the network's answers. Grad-CAM (|L|, see explanations.md) of "
    "the output of each branch's self-attention; each map is stretched on its own, bright: most."
)

STEP = 0.85  # between two stages of the drawing of the network

Stage = tuple[str, Sequence[int]]  # label, shape
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
        row, column, size = facts["box"]
        crops.append(crop(image, row, column, size, MARGIN))
        mask = np.repeat(facts["mask"][..., None].astype(np.uint8) * 255, 3, axis=2)
        masks.append(crop(mask, row, column, size, MARGIN)[..., 0] > 127)
    return np.stack(crops), np.stack(masks)


def maps_of(model: Any, crops: np.ndarray) -> dict[str, np.ndarray]:
    """Grad-CAM of n crops: rule → (n, 3, 7, 7)."""
    explainer = Explainer(model)
    parts = [explainer(crops[start : start + BATCH]) for start in range(0, len(crops), BATCH)]
    return {
        rule: np.concatenate([np.stack([part.cam(axis, rule) for axis in AXES], axis=1) for part in parts])
        for rule in RULES
    }


def shares_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """(n, 3) shares of maps (n, 3, 7, 7), enlarged to the masks' size, inside masks (n, rows, columns).

    An empty map has the mask's own share of the crop.
    """
    shares = []
    for heat, mask in zip(np.moveaxis(maps, 1, -1), masks, strict=True):  # (7, 7, 3)
        enlarged = cv2.resize(heat.astype(np.float32), mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
        total = enlarged.sum(axis=(0, 1))
        shares.append(np.where(total > 0, enlarged[mask].sum(axis=0) / np.where(total > 0, total, 1), mask.mean()))
    return np.array(shares)


def occlusion_effect(model: Any, image: np.ndarray) -> np.ndarray:
    """(3, 49) radians: how much each angle changes when one cell's 32 × 32 pixels take the crop's mean colour."""
    side = image.shape[0] // SIDE
    covered = np.repeat(image[None], SIDE**2 + 1, axis=0)  # the last one stays as it is
    for cell in range(SIDE**2):
        row, column = (side * place for place in divmod(cell, SIDE))
        covered[cell, row : row + side, column : column + side] = image.mean(axis=(0, 1))
    angles = predict_angles(model, covered)
    return np.abs(angles[:-1] - angles[-1]).T


def agreements(maps: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """(n, 3) Spearman's rank correlations of maps (n, 3, 7, 7) with effects (n, 3, 49); 0 where one is constant."""
    from scipy.stats import rankdata

    flat = maps.reshape(effects.shape)
    first, second = (rankdata(values, axis=-1) - (SIDE**2 + 1) / 2 for values in (flat, effects))  # means are 0
    norms = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    return (first * second).sum(axis=-1) / np.maximum(norms, 1)


# --- The document -----------------------------------------------------------------------------------------------------
def text_of(values: np.ndarray, form: str) -> str:
    """Mean and 95% interval of (n,) values, each in a format such as ".1%"."""
    value, low, high = (f"{part:{form}}" for part in summarise({"": values})[""][:3])
    return f"{value} [{low}, {high}]"


def rows_of(network: str, measured: Measured, show: Callable[[np.ndarray], str]) -> list[list[str]]:
    """Rows of a table: network, rule, and for each axis what `show` makes of its values (n,)."""
    return [[network, f"{rule}: {NAMES[rule]}", *map(show, values.T)] for rule, values in measured.items()]


def measured_parts(model: Any, untrained: Any, crops: np.ndarray, masks: np.ndarray) -> dict[str, str]:
    """What doc/explanations.md holds between its marks, by their names."""
    maps, areas = maps_of(model, crops), masks.mean(axis=(1, 2))
    effects = np.stack([occlusion_effect(model, image) for image in crops])
    trained = {rule: shares_inside(heat, masks) for rule, heat in maps.items()}
    control = {rule: shares_inside(heat, masks) for rule, heat in maps_of(untrained, crops).items()}
    ranks = {rule: agreements(heat, effects) for rule, heat in maps.items()}

    def share(values: np.ndarray) -> str:
        return f"{text_of(values, '.1%')}; {(values > areas).sum()} of {len(areas)}"

    gains = [
        [axis, text_of(100 * (drawn - areas), "+.1f"), text_of(100 * (drawn - chance), "+.1f")]
        for axis, drawn, chance in zip(AXES, trained["local"].T, control["local"].T, strict=True)
    ]
    header = ["Network", "Map", *AXES]
    return {
        "area": f"Head, hair and ears cover {text_of(areas, '.1%')} of the crop.",
        "shares": table(header, rows_of("trained", trained, share) + rows_of("untrained", control, share)),
        "gains": table(["Axis", "Above the mask's share of the crop", "Above the untrained network"], gains),
        "agreement": table(header, rows_of("trained", ranks, lambda values: text_of(values, ".2f"))),
    }


# --- The figure of Grad-CAM -------------------------------------------------------------------------------------------
def grad_cam_figure(model: Any, seed: int, heads: int = 3) -> np.ndarray:
    """Grad-CAM of synthetic heads: a row for each head, a column for the crop and one for each axis."""
    crops, _ = synthetic_crops(heads, seed)
    explanation, tiles = Explainer(model)(crops), []
    for index, image in enumerate(crops):
        overlays = explanation_tiles(image, explanation, index)["gradcam"].values()
        tiles += [("input crop", image), *((text.removesuffix(": Grad-CAM"), overlay) for text, overlay in overlays)]
    titles, images = zip(*tiles, strict=True)
    title, footnote = "Grad-CAM: which cells move which angle", FOOTNOTE.format(margin=MARGIN)
    return panel(images, titles, 1 + len(AXES), title=title, footnote=footnote, tile=160)


# --- The drawing of the network ---------------------------------------------------------------------------------------
def architecture_stages(model: Any) -> list[list[tuple[str, tuple[int, ...]]]]:
    """The trunk and a branch of a RAFA-Net: (label, shape without the batch) of each stage, read from its layers."""
    names, axis = [layer.name for layer in model.layers], AXES[0]
    outputs = [name for name in names if re.fullmatch(rf"({axis}_)?conv\d_.*_out", name)]
    last = {name.removeprefix(f"{axis}_")[:5]: name for name in outputs}
    branch = {"conv5": last.pop("conv5"), "self-attention": f"{axis}_self_attention"}
    branch |= {"coarse-to-fine pooling": f"{axis}_regions", "attentional pooling": f"{axis}_attentional_pooling"}
    branch |= {"weighted attention": f"{axis}_weighted_attention"}

    def shape(name: str) -> tuple[int, ...]:
        output = model.get_layer(name).output
        return tuple((output[0] if isinstance(output, list | tuple) else output).shape[1:])

    trunk = {"RGB crop": "crop", "conv1": "conv1_relu", **last}
    return [[(label, shape(name)) for label, name in stages.items()] for stages in (trunk, branch)]


def draw_architecture(path: str | Path, trunk: Sequence[Stage], branch: Sequence[Stage], title: str) -> None:
    """Draw the trunk's stages, then the branch's stages once for each axis in its colour.

    Args:
        trunk, branch: (label, shape) of each stage, read from the model.
    """
    high = (len(trunk) + len(branch) + 0.5) * STEP
    figure = plots.new_figure(9.5, high + 1.35, layout=None)
    plot = figure.add_axes((0, 0, 1, 1), xlim=(-4.75, 4.75), ylim=(-high - 0.45, 0.9))
    plot.set_axis_off()
    plot.text(0, 0.65, title, ha="center", size=14, weight="bold")
    last = _draw_stages(plot, trunk, (0, 0), GREY)
    for x, axis in zip((-3.15, 0, 3.15), AXES, strict=True):
        below = (x, last[1] - 1.5 * STEP)
        _draw_arrow(plot, last, below)
        _draw_stages(plot, [*branch, (axis, ())], below, AXIS_COLOURS[axis])
    plots.save(figure, path)


def _draw_stages(plot: Any, stages: Sequence[Stage], top: tuple[float, float], colour: Colour) -> tuple[float, float]:
    """Draw stages below each other, the first one's middle at `top`; returns the last one's middle."""
    places = [(top[0], top[1] - level * STEP) for level in range(len(stages))]
    for place, stage in zip(places, stages, strict=True):
        _draw_stage(plot, place, *stage, colour)
    for above, below in itertools.pairwise(places):
        _draw_arrow(plot, above, below)
    return places[-1]


def _draw_stage(plot: Any, middle: tuple[float, float], label: str, shape: Sequence[int], colour: Colour) -> None:
    """A pale box with label and shape; one without a shape is narrower and full of colour."""
    from matplotlib.patches import FancyBboxPatch

    (x, y), wide, edge = middle, 3.0 if shape else 1.6, plots.shade(colour)
    face, ink = ((*edge, 0.14), "black") if shape else (edge, "white")
    corner, style = (x - wide / 2, y - 0.28), "round,pad=0,rounding_size=0.1"
    plot.add_patch(FancyBboxPatch(corner, wide, 0.56, style, facecolor=face, edgecolor=edge))
    plot.text(x, y + (0.1 if shape else 0), label, ha="center", va="center", size=10, weight="bold", color=ink)
    plot.text(x, y - 0.14, " × ".join(map(str, shape)), ha="center", va="center", size=9, family="monospace")


def _draw_arrow(plot: Any, above: tuple[float, float], below: tuple[float, float]) -> None:
    ends = np.add(below, (0, 0.28)), np.add(above, (0, -0.28))
    plot.annotate("", *ends, arrowprops={"arrowstyle": "-|>", "color": "0.3", "shrinkA": 0, "shrinkB": 0})


# --- The script -------------------------------------------------------------------------------------------------------
def main() -> None:
    parser = option_parser(__doc__)
    add = parser.add_argument
    add("--weights", required=True, metavar="FILE", help="the network: .keras or .weights.h5")
    add("--doc", type=Path, default=ROOT / "doc", metavar="DIR", help="folder to write to")
    add("--heads", type=number(int, 2), default=50, help="synthetic heads to measure on")
    add("--seed", type=number(int, 0), default=2020, help="of the synthetic heads")
    options = parser.parse_args()
    from rafa.net.backend import keras
    from rafa_model import build_rafa_net, load_rafa_net

    called = f"--weights {options.weights} --heads {options.heads} --seed {options.seed}"
    made = environment(f"python tests/measurements/explanations.py {called}")  # before any file is written
    model = load_rafa_net(options.weights)
    keras.utils.set_random_seed(options.seed)
    untrained = build_rafa_net(model.name.removeprefix("rafa_net_"), weights=None)
    parts = measured_parts(model, untrained, *synthetic_crops(options.heads, options.seed))
    made_by = "`{command}`, {date:.10}, commit {commit}, weights SHA-256 ".format(**made)
    parts["command"] = made_by + sha256(options.weights)
    write_parts(ROOT / "doc/explanations.md", parts, options.doc / "explanations.md")
    figure = Image.fromarray(grad_cam_figure(model, options.seed + 1))
    with written_whole(options.doc / "grad_cam.png") as unfinished:  # 256 colours, dithered: a third of the bytes
        figure.quantize(palette=figure.quantize()).save(unfinished, optimize=True)
    title = "RAFA-Net with ResNet-50: one trunk, one branch for each rotation axis"
    stages = architecture_stages(build_rafa_net("resnet50", weights=None))
    draw_architecture(options.doc / "architecture.png", *stages, title)


if __name__ == "__main__":
    run_script(main)
