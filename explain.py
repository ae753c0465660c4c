"""Where the network looks: Grad-CAM of each axis, self-attention, and the weights of the coarse-to-fine regions.

    python explain.py --weights FILE --doc doc      writes doc/explanations.md, doc/grad_cam.png, doc/architecture.png

The maps of the pictures of one's own come from `python predict.py PATH --weights FILE --explain DIR`.

Grad-CAM.  The released code shows Grad-CAM pictures and does not name their layer.  Here it is the output of each
branch's self-attention, (7, 7, C): the last map with places in it, and the first that only one axis uses.  With A the
map and y the angle of that axis, the weight of channel c is the mean of dy/dA over the 49 cells, and the map is
M = sum over c of weight · A.  For a class, Grad-CAM keeps what is positive in M: evidence for the class.  An angle is
no class: negative M is evidence too, for turning the other way, and ReLU would show for a head turned left something
else than for its mirror picture.  So the map here is |M|.  RULES has others, and `doc/explanations.md` compares them.

Reference: Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
ICCV 2017.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

import figures
from data_loaders import AXES, crop

RULES = {
    "absolute": ("\\|M\\|, which is drawn", lambda signed, local, angle: np.abs(signed)),
    "towards": ("M · sign(angle) above 0", lambda signed, local, angle: np.maximum(signed * np.sign(angle), 0)),
    "positive": ("M above 0, as for a class", lambda signed, local, angle: np.maximum(signed, 0)),
    "local": ("\\|L\\|, gradients not averaged", lambda signed, local, angle: np.abs(local)),
}
PANEL_LETTERS = "abc"


# --- Maps of a network ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Explanation:
    """What a network made of b crops; dicts have the keys of AXES.

    `signed`: axis → (b, 7, 7) the map M of Grad-CAM, before a rule makes it positive.
    `local`: axis → (b, 7, 7) L, the sum over c of dy/dA · A: as M, with each cell's own gradient instead of the mean.
    `attention`: axis → (b, 49, 49) self-attention; row i says where cell i looks and sums to 1.
    `regions`: axis → (b, 35) how much each region of `region_boxes` counts in what the regressor sees; sums to 1.
    `gates`: axis → γ of the self-attention: 0 says that it changes nothing, whatever it looks at.
    """

    angles: np.ndarray  # (b, 3) radians, list signs
    signed: dict
    local: dict
    attention: dict
    regions: dict
    gates: dict

    def cam(self, axis, rule="absolute"):
        """(b, 7, 7) not negative; the rules are the keys of RULES."""
        angle = self.angles[:, AXES.index(axis), None, None]
        return RULES[rule][1](self.signed[axis], self.local[axis], angle)


class Explainer:
    """Explains the answers of a RAFA-Net from `rafa_model`.

    Args:
        model: from `build_rafa_net` or `load_rafa_net`.
    """

    def __init__(self, model):
        import keras
        import tensorflow as tf

        outputs = {}
        for axis in AXES:
            attended, attention = model.get_layer(f"{axis}_self_attention").output
            _, between = model.get_layer(f"{axis}_attentional_pooling").output  # (b, 35, 35): row n looks at regions n'
            _, weights = model.get_layer(f"{axis}_weighted_attention").output  # (b, 35)
            outputs |= {axis: (model.get_layer(axis).output, attended, attention, between, weights)}
        self.gates = {axis: float(model.get_layer(f"{axis}_self_attention").gamma[0]) for axis in AXES}
        probe = keras.Model(model.input, outputs)

        @tf.function(reduce_retracing=True)
        def look(crops):
            with tf.GradientTape() as tape:
                found = probe(crops, training=False)
                # Branches share no map, and a crop no other's: the gradient of the sum is that of each angle alone.
                total = tf.add_n([tf.reduce_sum(found[axis][0]) for axis in AXES])
            gradients = tape.gradient(total, [found[axis][1] for axis in AXES])
            maps = [found[axis][1] for axis in AXES]
            means = [tf.reduce_mean(gradient, axis=(1, 2), keepdims=True) for gradient in gradients]
            signed, local = (
                [tf.reduce_sum(weight * attended, axis=-1) for weight, attended in zip(weights, maps, strict=True)]
                for weights in (means, gradients)
            )
            regions = [tf.einsum("bn,bnm->bm", found[axis][4], found[axis][3]) for axis in AXES]
            return [found[axis][0] for axis in AXES], signed, local, [found[axis][2] for axis in AXES], regions

        self._look = look

    def __call__(self, crops):
        """`Explanation` of (b, 224, 224, 3) RGB crops, 0...255."""
        angles, *maps = self._look(np.asarray(crops, np.float32))
        maps = [{axis: value.numpy() for axis, value in zip(AXES, values, strict=True)} for values in maps]
        return Explanation(np.concatenate(angles, axis=1), *maps, self.gates)


def region_boxes():
    """(35, 4) row0, column0, row1, column1 of the coarse-to-fine regions, as fractions of the crop, in their order."""
    from rafa_model import POOLINGS

    side, boxes = 7, []
    for size, stride in (*POOLINGS, (7, 1)):
        starts = range(0, side - size + 1, stride)
        boxes += [(row, column, row + size, column + size) for row in starts for column in starts]
    return np.array(boxes) / side


# --- Pictures ---------------------------------------------------------------------------------------------------------


def stretched(heat):
    """A map that is not negative, divided by its maximum; all 0 if nothing stands out."""
    return heat / heat.max() if heat.max() > 0 else heat


def explanation_tiles(picture, found, index, cell=(3, 3)):
    """The twelve overlays of one crop, RGB: a dict kind → {axis: (title, picture)}.

    Args:
        picture: (224, 224, 3) uint8 RGB.
        found: `Explanation`; index: the crop's place in it.
        cell: row and column of the cell of the 7 × 7 map whose attention is drawn.
    """
    asks, boxes = cell[0] * 7 + cell[1], region_boxes()
    tiles = {kind: {} for kind in ("gradcam", "attention", "cell", "regions")}
    for letter, axis, angle in zip(PANEL_LETTERS, AXES, np.degrees(found.angles[index]), strict=True):
        attention, gate = found.attention[axis][index], found.gates[axis]
        heat = figures.overlay_heat(picture, stretched(found.cam(axis)[index]))
        tiles["gradcam"][axis] = f"({letter}) {axis} {angle:+.1f}°: Grad-CAM", heat
        average = figures.overlay_attention(picture, attention.mean(axis=0))
        tiles["attention"][axis] = f"{axis}: self-attention, mean of all cells, γ = {gate:+.3f}", average
        chosen = figures.overlay_attention(picture, attention[asks], asks)
        tiles["cell"][axis] = f"{axis}: where the marked cell looks, row {cell[0]} column {cell[1]}", chosen
        regions = figures.overlay_regions(picture, found.regions[axis][index], boxes)
        tiles["regions"][axis] = f"{axis}: weights of the 35 regions", regions
    return tiles


def explanation_panel(tiles, title):
    """The tiles of `explanation_tiles` on one sheet: a column per axis, Grad-CAM in the first row."""
    flat = [tiles[kind][axis] for kind in tiles for axis in AXES]
    footnote = (
        "Grad-CAM: absolute value, of the self-attention's output. Every map is stretched for itself, lowest to "
        "highest (Grad-CAM from 0). γ is the gate of the self-attention: near 0 it hardly changes the answer."
    )
    return figures.panel([tile for _, tile in flat], [text for text, _ in flat], 3, title=title, footnote=footnote)


class Explanations:
    """Writes the panel of every face into a folder, and each of its pictures by itself if asked for."""

    def __init__(self, model, folder, cell=(3, 3), singles=False):
        self.explainer, self.folder, self.cell, self.singles = Explainer(model), Path(folder), cell, singles

    def write(self, frame):
        """Explain the faces of a `faces.Frame`."""
        for number, face in enumerate(frame.faces):
            found = self.explainer(face.crop[None])
            tiles = explanation_tiles(np.ascontiguousarray(face.crop), found, 0, self.cell)
            at = "" if frame.number is None else f"-frame{frame.number:06d}"
            copy = frame.source.copy
            target = self.folder / copy.with_name(f"{copy.stem}{copy.suffix.replace('.', '-')}{at}-face{number}.png")
            target.parent.mkdir(parents=True, exist_ok=True)
            name = Path(frame.source.path).name + (f", frame {frame.number}" if at else "")
            figures.save_picture(explanation_panel(tiles, f"{name}, face {number}"), target)
            if self.singles:
                for kind, pictures in tiles.items():
                    for axis, (_, tile) in pictures.items():
                        figures.save_picture(tile, target.with_stem(f"{target.stem}-{kind}-{axis}"))


# --- Do the maps lie on the head? -------------------------------------------------------------------------------------


def generated_heads(count, seed, margin=0.2):
    """Crops (count, 224, 224, 3) of generated heads and the masks of the heads in them (count, 224, 224) bool.

    Yaw, pitch and roll are uniform within 60, 40 and 40 degrees; every head is another person's.
    """
    from head_renderer import random_identity, render_head

    crops, masks = [], []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        angles = np.radians(rng.uniform((-60, -40, -40), (60, 40, 40)))
        picture, facts = render_head(random_identity(rng), angles, rng=rng)
        box = [int(value) for value in facts["box"]]
        crops.append(crop(picture, *box, margin))
        mask = np.repeat(facts["mask"][..., None].astype(np.uint8) * 255, 3, axis=2)
        masks.append(crop(mask, *box, margin)[..., 0] > 127)
    return np.stack(crops), np.stack(masks)


def share_inside(heat, mask):
    """Share of a map's mass that lies inside a mask: the map, (7, 7), is enlarged to the mask's size first.

    A map without any mass has the share of the mask's area: it says nothing.
    """
    heat = cv2.resize(heat.astype(np.float32), mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return heat[mask].sum() / heat.sum() if heat.sum() > 0 else mask.mean()


def measure_shares(model, crops, masks, batch_size=10):
    """Shares inside the masks for each rule and axis: a dict rule → (n, 3), and the shares of area (n,)."""
    explainer = Explainer(model)
    shares = {rule: np.zeros((len(crops), len(AXES))) for rule in RULES}
    for start in range(0, len(crops), batch_size):
        found = explainer(crops[start : start + batch_size])
        for rule in RULES:
            for column, axis in enumerate(AXES):
                for index, heat in enumerate(found.cam(axis, rule), start=start):
                    shares[rule][index, column] = share_inside(heat, masks[index])
    return shares, masks.mean(axis=(1, 2))


def interval(values, seed=0, rounds=2000):
    """Mean and its 95 % percentile bootstrap interval."""
    values, rng = np.asarray(values), np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(rounds, len(values)))].mean(axis=1)
    return values.mean(), *np.percentile(means, (2.5, 97.5))


def share_rows(shares, areas, network):
    """Markdown rows: network, rule, and for each axis mean share, interval, and how many heads exceed their area."""
    rows = []
    for rule, values in shares.items():
        cells = []
        for column in values.T:
            mean, low, high = interval(column)
            above = f"{(column > areas).sum()} of {len(areas)}"
            cells.append(f"{mean:.1%} [{low:.1%}, {high:.1%}]; {above}")
        rows.append(f"| {network} | {rule}: {RULES[rule][0]} | {' | '.join(cells)} |")
    return rows


# --- The documents ----------------------------------------------------------------------------------------------------


def explanations_text(weights, heads, seed, measured, control):
    """doc/explanations.md as text.

    Args:
        measured, control: what `measure_shares` says of the network, and of an untrained one of the same shape.
    """
    from scoring import environment, sha256

    card, (shares, areas) = environment(), measured
    mean, low, high = interval(areas)
    verdicts = []
    for column, axis in enumerate(AXES):
        gain, least, most = interval(shares["absolute"][:, column] - areas)
        where = "on the head" if least > 0 else "beside the head" if most < 0 else "no more on the head than by chance"
        verdicts.append(f"- {axis}: {gain:+.1%} [{least:+.1%}, {most:+.1%}] of the mass against the area: {where}.")
    header = f"| Network | Map | {' | '.join(AXES)} |"
    lines = [
        "# Explanations: what is drawn, and whether it lies on the head",
        "",
        "This file is written by a program:",
        f"`{card['command']}`,",
        f"on {card['date'][:10]}, commit {card['commit']}, weights SHA-256 {sha256(weights)}.",
        "",
        *(line.strip() for line in METHOD.splitlines()),
        "",
        f"## Measured on {heads} generated heads, seed {seed}",
        "",
        "Each head is a person whom the network has not seen; yaw within 60°, pitch and roll within 40°, margin 0.2.",
        f"Head, hair and ears cover {mean:.1%} [{low:.1%}, {high:.1%}] of the crop: the share that a map without any",
        "preference would have. A cell of the table: mean share of the map's mass inside the head's mask [95 %",
        "interval over heads]; on how many heads the share exceeds the mask's own area.",
        "",
        header,
        "|---" * (2 + len(AXES)) + "|",
        *share_rows(shares, areas, "trained"),
        *share_rows(*control, "untrained"),
        "",
        "The difference to the area for the map that is drawn, head by head:",
        "",
        *verdicts,
        "",
        "A 7 × 7 map has cells of 32 pixels, each of which sees far more of the crop than its own square: mass beside",
        "the head may still be caused by it. The untrained network shows what the place of the head in the crop gives",
        "alone.",
    ]
    return "\n".join(lines) + "\n"


METHOD = """\
## Grad-CAM

The released code shows Grad-CAM pictures, one per axis, and does not name their layer. Here it is the output of
each branch's self-attention, a map of 7 × 7 cells: the last one with places in it, and the first that belongs to one
axis alone. Channel weights are the means of the gradient of that axis' angle; M is the weighted sum of the channels.

Grad-CAM was made for classes and drops what is negative in M, evidence against the class. An angle has no against:
negative M is evidence for turning the other way. The angle of a head and of its mirror picture differ only in
sign, and their maps should only be mirrored; dropping a sign would show two different halves of the evidence. Taking
M in the direction of the angle instead flips at 0°, where the sign is a matter of noise. So |M| is drawn; the others
are measured below. L is M with each cell's own gradient instead of the mean over cells: behind maximum pooling, only
the cells that were a maximum somewhere have one.

## Attention

The self-attention is a 49 × 49 matrix; row i says where cell i of the map looks. The panels show the mean of its
rows, and the row of one cell (`--cell`). Its gate γ starts at 0 and stands in the panel: near 0 the attention hardly
changes the answer, wherever it looks.

The 35 regions of the coarse-to-fine pooling are weighted twice: attentional pooling mixes them (τ, 35 × 35), weighted
attention sums the mixtures (w). Region n' counts (wᵀτ)ₙ' in what the regressor sees. Each weight is spread evenly over
its region, and the regions are added up.

Pictures of one's own: `python predict.py PATH --weights FILE --explain DIR`, and `--singles` for single files."""


def grad_cam_figure(model, seed, heads=3):
    """Grad-CAM of generated heads: a row per head, a column for the crop and one for each axis."""
    crops, _ = generated_heads(heads, seed)
    found = Explainer(model)(crops)
    pictures, titles = [], []
    for index, picture in enumerate(crops):
        tiles = explanation_tiles(np.ascontiguousarray(picture), found, index)["gradcam"]
        pictures += [np.ascontiguousarray(picture), *(tiles[axis][1] for axis in AXES)]
        titles += ["what the network sees", *(tiles[axis][0] for axis in AXES)]
    title = "Grad-CAM: which cells move which angle (generated heads)"
    footnote = (
        "Absolute value of Grad-CAM on the output of each branch's self-attention, bright: most; every map is "
        "stretched for itself. The angles are the network's answers.  python explain.py --weights FILE --doc doc"
    )
    return figures.panel(pictures, titles, 1 + len(AXES), title=title, footnote=footnote, tile=140)


def architecture_stages(model):
    """(trunk, branch): the stages of a RAFA-Net as (label, shape without the batch), read from its layers."""
    axis = AXES[0]

    def shape(name, output=0):
        found = model.get_layer(name).output
        return tuple((found[output] if isinstance(found, (list, tuple)) else found).shape[1:])

    last = {}  # stage → its last layer: the layers come in the order in which they were made
    for layer in model.layers:
        name = layer.name.removeprefix(f"{axis}_")
        if name.startswith("conv") and name.endswith("_out"):
            last[name[:5]] = layer.name
    trunk = [("RGB crop", shape("crop")), ("conv1", shape("conv1_relu"))]
    trunk += [(stage, shape(name)) for stage, name in sorted(last.items()) if name.startswith("conv")]
    branch = [("conv5", shape(last["conv5"])), ("self-attention", shape(f"{axis}_self_attention"))]
    branch += [("coarse-to-fine pooling", shape(f"{axis}_regions"))]
    branch += [("attentional pooling", shape(f"{axis}_attentional_pooling"))]
    branch += [("weighted attention", shape(f"{axis}_weighted_attention"))]
    return trunk, branch


def write_documents(weights, folder, heads, seed):
    """Write explanations.md, grad_cam.png and architecture.png into a folder."""
    from rafa_model import build_rafa_net, load_rafa_net

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    title = "RAFA-Net with ResNet-50: one trunk, one branch for each rotation axis"
    figures.draw_architecture(
        *architecture_stages(build_rafa_net("resnet50", weights=None)), folder / "architecture.png", title
    )
    model = load_rafa_net(weights)
    figures.save_picture(grad_cam_figure(model, seed + 1), folder / "grad_cam.png")
    crops, masks = generated_heads(heads, seed)
    measured = measure_shares(model, crops, masks)
    control = measure_shares(untrained(model, seed), crops, masks)
    text = explanations_text(weights, heads, seed, measured, control)
    (folder / "explanations.md").write_text(text, encoding="utf-8")
    return text


def untrained(model, seed):
    """A network of the same shape with random weights."""
    import keras

    from rafa_model import build_rafa_net

    keras.utils.set_random_seed(seed)
    return build_rafa_net(model.name.removeprefix("rafa_net_"), weights=None)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True, metavar="FILE", help="the network: .keras or .weights.h5")
    parser.add_argument("--doc", required=True, metavar="DIR", help="folder for the text and the two figures")
    parser.add_argument("--heads", type=int, default=50, help="generated heads to measure on (50)")
    parser.add_argument("--seed", type=int, default=2020, help="of the generated heads (2020)")
    options = parser.parse_args(arguments)
    if options.heads < 2 or options.seed < 0:
        parser.error("--heads must be at least 2 and --seed at least 0")
    try:
        print(write_documents(options.weights, options.doc, options.heads, options.seed))
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
