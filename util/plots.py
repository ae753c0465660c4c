"""Plots: error by angle, error by margin, and the network's diagram; each a PNG file."""

import functools
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_loaders import AXES
from util.colours import AXIS_COLOURS, BLACK, GREY, Colour
from util.predictions import Predictions, angle_errors
from util.protocol import MAE_KEYS
from util.provenance import written_whole
from util.tables import heading, title_of

BIN = 10  # degrees
FEWEST = 10  # errors in a bin that has percentiles; a bin with fewer shows each of them
SHARES = (5, 25, 50, 75, 95)  # per cent: the bands and the median of a bin
STEP = 0.85  # between two stages of the diagram

Stage = tuple[str, Sequence[int]]  # label, shape


def _figure(width: float, height: float, layout: Any = "constrained") -> Any:
    """A figure in inches with a canvas of its own: nothing global, so nothing leaks from one plot into the next."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    return FigureCanvasAgg(Figure((width, height), dpi=120, layout=layout, facecolor="white")).figure


def _save(figure: Any, path: str | Path) -> None:
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, format="png", metadata={"Software": None})  # the same plot gives the same bytes


def _shade(colour: Colour) -> np.ndarray:
    return np.divide(colour, 255)


# --- Error by angle ---------------------------------------------------------------------------------------------------
def draw_error_by_angle(path: str | Path, predictions: Predictions, card: dict[str, Any]) -> None:
    """Plot absolute error against true angle: median, 25-75% and 5-95% in each bin, with the number of images below.

    Errors so large that they would squeeze the plot become triangles at its upper edge.
    """
    errors = angle_errors(predictions.true, predictions.predicted)
    bins = [_binned(*pair) for pair in zip(predictions.true.T, errors.T, strict=True)]
    highest = np.concatenate([spread[:, -1] for _, _, spread, _ in bins])
    limit = 1.15 * max(np.nanmax(highest) if np.isfinite(highest).any() else errors.max(), 0.1)
    figure = _figure(11, 5)
    plots = figure.subplots(2, 3, sharex="col", sharey="row", height_ratios=(4, 1))
    for axis, (middles, counts, spread, sparse) in enumerate(bins):
        (upper, lower), colour = plots[:, axis], _shade(AXIS_COLOURS[AXES[axis]])
        _draw_bands(upper, middles, spread, colour)
        _draw_singles(upper, predictions.true[sparse, axis], errors[sparse, axis], limit)
        upper.set(title=AXES[axis], ylim=(0, limit))
        upper.grid(axis="y", alpha=0.3)
        lower.bar(middles, counts, 0.94 * BIN, color=colour)
        lower.set(xlabel=f"true {AXES[axis]} (degrees)", yscale="log")
    plots[0, 0].set_ylabel("absolute error (degrees)")
    plots[1, 0].set(ylabel="images", ylim=(0.7, 2 * max(6, *(counts.max() for _, counts, _, _ in bins))))
    plots[1, 0].yaxis.set_major_formatter("{x:g}")
    title = f"{heading(card)}, {len(predictions):,} images: error against true angle"
    figure.suptitle("\n".join(textwrap.wrap(title, 110)))
    figure.legend(*plots[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    _save(figure, path)


def _binned(angle: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Middles and counts of the bins, (bins, 5) percentiles (NaN in sparse bins), and which images lie in those."""
    from scipy.stats import binned_statistic

    def percentile(errors: np.ndarray, share: float) -> float:
        return np.percentile(errors, share) if len(errors) >= FEWEST else np.nan

    edges = BIN * np.arange(np.floor(angle.min() / BIN), np.floor(angle.max() / BIN) + 2)
    counts, _, number = binned_statistic(angle, error, "count", edges)
    parts = [binned_statistic(angle, error, functools.partial(percentile, share=share), edges)[0] for share in SHARES]
    return edges[:-1] + BIN / 2, counts, np.stack(parts, axis=1), counts[number - 1] < FEWEST


def _draw_bands(plot: Any, middles: np.ndarray, spread: np.ndarray, colour: np.ndarray) -> None:
    for low, high, alpha in ((0, 4, 0.18), (1, 3, 0.45)):
        tall, label = spread[:, high] - spread[:, low], f"{SHARES[low]}-{SHARES[high]}%"
        plot.bar(middles, tall, 0.94 * BIN, spread[:, low], color=colour, alpha=alpha, label=label)
    plot.plot(middles, spread[:, 2], "o-", color=colour, markersize=4, label="median")


def _draw_singles(plot: Any, angle: np.ndarray, error: np.ndarray, limit: float) -> None:
    low = error <= limit
    plot.plot(angle[low], error[low], ".", color="0.45", label=f"each error in a bin of fewer than {FEWEST}")
    plot.plot(angle[~low], np.full((~low).sum(), 0.98 * limit), "^", color="black", label=f"one above {limit:.0f}°")


# --- Error by margin --------------------------------------------------------------------------------------------------
def draw_sweep(path: str | Path, results: Sequence[Mapping[str, Any]], marked: Sequence[tuple[float, str]]) -> None:
    """Plot mean absolute error with its interval against the margin of the test crops.

    Args:
        results: of one data set, a result for each margin.
        marked: (margin, label) of margins to name.
    """
    margins, card = [result["card"]["margin"] for result in results], results[0]["card"]
    figure = _figure(7.5, 4.8)
    plot = figure.subplots()
    curves = {**AXIS_COLOURS, "mean of the three": BLACK}
    for key, (name, colour) in zip(MAE_KEYS, curves.items(), strict=True):
        value, low, high = np.array([result["estimates"][key][:3] for result in results]).T
        plot.plot(margins, value, "o-", color=_shade(colour), label=name, markersize=4)
        plot.fill_between(margins, low, high, color=_shade(colour), alpha=0.2, linewidth=0)
    for margin, _ in marked:
        plot.axvline(margin, color="0.45", linestyle=":", zorder=0)
    if marked:
        plot.secondary_xaxis("top").set_xticks(*zip(*marked, strict=True), rotation=25, ha="left", size=9)
    plot.set(xlabel="margin (share of the box added on each side)", ylabel="mean absolute error (degrees)")
    plot.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(curves), frameon=False)
    bands = "bands: 95% intervals" if np.isfinite(results[0]["estimates"]["mae"][1]) else "no intervals"
    title = f"{title_of(card)}, {card['images']['scored']:,} images: error by margin, {bands}"
    figure.suptitle("\n".join(textwrap.wrap(title, 80)))
    _save(figure, path)


# --- The network's diagram --------------------------------------------------------------------------------------------
def draw_architecture(path: str | Path, trunk: Sequence[Stage], branch: Sequence[Stage], title: str) -> None:
    """Draw the trunk's stages, then the branch's stages once for each axis in its colour.

    Args:
        trunk, branch: (label, shape) of each stage, read from the model.
    """
    high = (len(trunk) + len(branch) + 0.5) * STEP
    figure = _figure(9.5, high + 1.35, layout=None)
    plot = figure.add_axes((0, 0, 1, 1), xlim=(-4.75, 4.75), ylim=(-high - 0.45, 0.9))
    plot.set_axis_off()
    plot.text(0, 0.65, title, ha="center", size=14, weight="bold")
    last = _draw_stages(plot, trunk, (0, 0), GREY)
    for x, axis in zip((-3.15, 0, 3.15), AXES, strict=True):
        below = (x, last[1] - 1.5 * STEP)
        _draw_arrow(plot, last, below)
        _draw_stages(plot, [*branch, (axis, ())], below, AXIS_COLOURS[axis])
    _save(figure, path)


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

    (x, y), wide, edge = middle, 3.0 if shape else 1.6, _shade(colour)
    face, ink = ((*edge, 0.14), "black") if shape else (edge, "white")
    corner, style = (x - wide / 2, y - 0.28), "round,pad=0,rounding_size=0.1"
    plot.add_patch(FancyBboxPatch(corner, wide, 0.56, style, facecolor=face, edgecolor=edge))
    plot.text(x, y + (0.1 if shape else 0), label, ha="center", va="center", size=10, weight="bold", color=ink)
    plot.text(x, y - 0.14, " × ".join(map(str, shape)), ha="center", va="center", size=9, family="monospace")


def _draw_arrow(plot: Any, above: tuple[float, float], below: tuple[float, float]) -> None:
    ends = np.add(below, (0, 0.28)), np.add(above, (0, -0.28))
    plot.annotate("", *ends, arrowprops={"arrowstyle": "-|>", "color": "0.3", "shrinkA": 0, "shrinkB": 0})
