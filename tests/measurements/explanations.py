"""Whether the maps of `predict.py --explain` lie on the head: the numbers and figures of doc/explanations.md.

python tests/measurements/explanations.py --weights FILE --doc doc
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from data_loaders import AXES, crop
from util import figures
from util.explain import RULES, Explainer, explanation_tiles

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
    """Shares inside the masks for each rule and axis: a dict rule → (n, 3)."""
    explainer = Explainer(model)
    shares = {rule: np.zeros((len(crops), len(AXES))) for rule in RULES}
    for start in range(0, len(crops), batch_size):
        found = explainer(crops[start : start + batch_size])
        for rule in RULES:
            for column, axis in enumerate(AXES):
                for index, heat in enumerate(found.cam(axis, rule), start=start):
                    shares[rule][index, column] = share_inside(heat, masks[index])
    return shares


def occlusion_effect(model, picture):
    """(3, 49) radians: how much each angle changes when one cell's 32 × 32 pixels get the crop's mean colour."""
    side = picture.shape[0] // 7
    covered = np.repeat(picture[None], 50, axis=0)  # the last one stays as it is
    for cell in range(49):
        row, column = (side * place for place in divmod(cell, 7))
        covered[cell, row : row + side, column : column + side] = picture.mean(axis=(0, 1))
    answers = model.predict_on_batch(covered)
    return np.stack([np.abs(answers[axis][:49, 0] - answers[axis][49, 0]) for axis in AXES])


def measure_agreement(model, crops):
    """Spearman's rank correlation of each map with `occlusion_effect`: a dict rule → (n, 3)."""
    from scipy.stats import spearmanr

    explainer, found = Explainer(model), {rule: [] for rule in RULES}
    for picture in crops:
        explanation, effects = explainer(picture[None]), occlusion_effect(model, picture)
        for rule, rows in found.items():
            maps = [explanation.cam(axis, rule).ravel() for axis in AXES]
            # A map without any mass, or an angle that nothing changes, agrees with nothing: 0.
            rows.append(
                [spearmanr(*pair)[0] if min(map(np.ptp, pair)) > 0 else 0.0 for pair in zip(maps, effects, strict=True)]
            )
    return {rule: np.array(rows) for rule, rows in found.items()}


def interval(values, seed=0, rounds=2000):
    """Mean and its 95 % percentile bootstrap interval."""
    values, rng = np.asarray(values), np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(rounds, len(values)))].mean(axis=1)
    return values.mean(), *np.percentile(means, (2.5, 97.5))


def table_rows(values, network, show):
    """Markdown rows: network, rule, and for each axis what `show` makes of the values (n,) of that axis."""
    return [
        f"| {network} | {rule}: {RULES[rule][0]} | {' | '.join(map(show, found.T))} |" for rule, found in values.items()
    ]


def share_text(values, areas):
    return "{:.1%} [{:.1%}, {:.1%}]".format(*interval(values)) + f"; {(values > areas).sum()} of {len(areas)}"


# --- The documents ----------------------------------------------------------------------------------------------------


def explanations_text(weights, seed, shares, control, areas, agreement):
    """doc/explanations.md as text.

    Args:
        shares, control: rule → (n, 3) of `measure_shares`, of the network and of an untrained one of the same shape.
        areas: (n,) shares of area; agreement: of `measure_agreement`.
    """
    from scoring import environment, sha256

    card, (mean, low, high) = environment(), interval(areas)
    header = [f"| Network | Map | {' | '.join(AXES)} |", "|---" * (2 + len(AXES)) + "|"]
    verdicts = []
    for axis, drawn, chance in zip(AXES, shares["local"].T, control["local"].T, strict=True):
        gains = ["{:+.1%} [{:+.1%}, {:+.1%}]".format(*interval(drawn - other)) for other in (areas, chance)]
        verdicts.append(f"- {axis}: {gains[0]} against the area, {gains[1]} against the untrained network")
    share, rank = (
        lambda values: share_text(values, areas),
        lambda values: "{:.2f} [{:.2f}, {:.2f}]".format(*interval(values)),
    )
    made = f"{card['date'][:10]}, commit {card['commit']}, weights SHA-256 {sha256(weights)}"
    text = RESULTS.format(heads=len(areas), seed=seed, area=f"{mean:.1%} [{low:.1%}, {high:.1%}]")
    first, second, third = text.split("TABLE\n")
    parts = [METHOD.format(command=card["command"], made=made), first.rstrip() + "\n"]
    parts += [
        *header,
        *table_rows(shares, "trained", share),
        *table_rows(control, "untrained", share),
        second.rstrip() + "\n",
    ]
    parts += [*verdicts, third, *header, *table_rows(agreement, "trained", rank)]
    return "\n".join(parts) + "\n"


METHOD = """\
# Explanations: what is drawn, and whether it lies on the head

Written by a program, numbers included: `{command}`,
{made}.

## Grad-CAM

The released code shows Grad-CAM pictures, one per axis, and does not name their layer. Here it is the output of each
branch's self-attention, a map A of 7 × 7 cells: the last one with places in it, and the first that belongs to one axis
alone. With y the angle of that axis there are two ways to weigh its channels:

- **M**, Grad-CAM as published: the weight of a channel is the mean of ∂y/∂A over all cells.
- **L**, drawn by default: every cell keeps its own gradient (known as HiResCAM). RAFA-Net takes maxima after A, so most
  entries of ∂y/∂A are 0, and M gives those cells what others have caused.

Grad-CAM was made for classes and drops what is negative, evidence against the class. An angle has no against: negative
is evidence for turning the other way. The angles of a head and of its mirror picture differ only in sign, and their
maps should only be mirrored; dropping a sign would show two different halves of the evidence. Taking M in the direction
of the angle flips at 0°, where the sign is a matter of noise. So the absolute value is drawn. `--cam` draws the others.

## Attention

The self-attention is a 49 × 49 matrix; row i says where cell i of the map looks. The panels show the mean of its rows,
and the row of one cell (`--cell`). Its gate γ starts at 0 and stands in the panel: near 0 the attention hardly changes
the answer, wherever it looks.

The 35 regions of the coarse-to-fine pooling are weighted twice: attentional pooling mixes them (τ, 35 × 35), weighted
attention sums the mixtures (w). Region n' counts (wᵀτ)ₙ' in what the regressor sees. Each weight is spread evenly over
its region, and the regions are added up.

Pictures of one's own: `python predict.py PATH --weights FILE --explain DIR`, and `--singles` for single files.
"""

RESULTS = """\
## Measured on {heads} generated heads, seed {seed}

The network has seen none of these people; yaw within 60°, pitch and roll within 40°, margin 0.2. Head, hair and ears
cover {area} of the crop: what a map without any preference would have on them. In the table: mean share
of the map's mass inside the head's mask [95 % interval over heads]; on how many heads it exceeds the mask's own area.
The untrained network shows what the place of the head in the crop gives by itself.

TABLE

The map that is drawn, head by head. Gradients end where a maximum was taken, and maxima lie where something is to be
seen: those of an untrained network may lie on the head too. What training adds is the second number.

TABLE

A cell of the map has 32 pixels and sees far more of the crop than its own square: mass beside the head may still be
caused by it. So a second question, which no mask answers: do the cells that the map marks matter? Each cell's pixels
are covered with the crop's mean colour, and Spearman's rank correlation taken between the map and the change of the
angle. Mean over the heads [95 % interval]:
"""


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
        "Grad-CAM (|L|, see explanations.md) of the output of each branch's self-attention, bright: most; every map is "
        "stretched for itself. The angles are the network's answers.  python explain.py --weights FILE --doc doc"
    )
    return figures.panel(pictures, titles, 1 + len(AXES), title=title, footnote=footnote, tile=132)


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
    model, (crops, masks) = load_rafa_net(weights), generated_heads(heads, seed)
    areas = masks.mean(axis=(1, 2))
    shares, control = (measure_shares(network, crops, masks) for network in (model, untrained(model, seed)))
    text = explanations_text(weights, seed, shares, control, areas, measure_agreement(model, crops))
    # Written last: the text names the commit, and whether files differ from it.
    (folder / "explanations.md").write_text(text, encoding="utf-8")
    figures.save_image(grad_cam_figure(model, seed + 1), folder / "grad_cam.png")
    title = "RAFA-Net with ResNet-50: one trunk, one branch for each rotation axis"
    stages = architecture_stages(build_rafa_net("resnet50", weights=None))
    figures.draw_architecture(*stages, folder / "architecture.png", title)
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
