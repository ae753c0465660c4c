"""Plots of errors by angle and by margin, each a PNG file."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rafa.files import written_whole
from rafa.pose import AXES, AXIS_COLOURS, BLACK, Colour, angle_errors
from rafa.score.metrics import MAE_KEYS
from rafa.score.predictions import Predictions

BIN = 10  # degrees
FEWEST = 10  # images in a bin that has percentiles
SHARES = (5, 25, 50, 75, 95)  # per cent: the bands and the median of a bin


def new_figure(width: float, height: float, layout: Any = "constrained") -> Any:
    """A figure in inches without pyplot: nothing global, so nothing leaks from one plot into the next."""
    from matplotlib.figure import Figure

    return Figure((width, height), dpi=120, layout=layout, facecolor="white")


def save(figure: Any, path: str | Path) -> None:
    """Write a figure as a PNG file."""
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, format="png", metadata={"Software": None})  # the same plot gives the same bytes


def shade(colour: Colour) -> np.ndarray:
    """A colour as matplotlib takes it."""
    return np.divide(colour, 255)


# --- Error by angle ---------------------------------------------------------------------------------------------------
def draw_error_by_angle(path: str | Path, predictions: Predictions, title: str) -> None:
    """Plot absolute error against target angle: median, 25-75% and 5-95% in each bin, with the number of images below.

    Bins of fewer than FEWEST images have no percentiles.
    """
    errors = angle_errors(predictions.target, predictions.predicted)
    figure = new_figure(11, 5)
    plots = figure.subplots(2, 3, sharex="col", sharey="row", height_ratios=(4, 1))
    for axis, name in enumerate(AXES):
        number = np.floor(predictions.target[:, axis] / BIN).astype(int)
        bins, counts = np.unique(number, return_counts=True)
        (upper, lower), colour = plots[:, axis], shade(AXIS_COLOURS[name])
        full = bins[counts >= FEWEST]
        spread = np.array([np.percentile(errors[number == k, axis], SHARES) for k in full]).reshape(-1, len(SHARES))
        _draw_bands(upper, BIN * (full + 0.5), spread, colour)
        upper.set_title(name)
        upper.grid(axis="y", alpha=0.3)
        lower.bar(BIN * (bins + 0.5), counts, 0.94 * BIN, color=colour)
        lower.set(xlabel=f"true {name} (degrees)", yscale="log")
    plots[0, 0].set(ylabel="absolute error (degrees)", ylim=(0, None))
    plots[1, 0].set(ylabel="images", ylim=(0.7, None))
    plots[1, 0].yaxis.set_major_formatter("{x:g}")
    title = f"{title}, {len(predictions):,} images: error against true angle"
    figure.suptitle("\n".join(textwrap.wrap(title, 110)))
    figure.legend(*plots[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)


def _draw_bands(plot: Any, middles: np.ndarray, spread: np.ndarray, colour: np.ndarray) -> None:
    for low, high, alpha in ((0, 4, 0.18), (1, 3, 0.45)):
        tall, label = spread[:, high] - spread[:, low], f"{SHARES[low]}-{SHARES[high]}%"
        plot.bar(middles, tall, 0.94 * BIN, spread[:, low], color=colour, alpha=alpha, label=label)
    plot.plot(middles, spread[:, 2], "o-", color=colour, markersize=4, label="median")


# --- Error by margin --------------------------------------------------------------------------------------------------
def draw_sweep(
    path: str | Path, results: Sequence[Mapping[str, Any]], marked: Sequence[tuple[float, str]], title: str
) -> None:
    """Plot mean absolute error with its interval against the margin of the test crops.

    Args:
        results: of one dataset, a result for each margin.
        marked: (margin, label) of margins to name.
        title: what was scored.
    """
    margins, images = [result["card"]["margin"] for result in results], results[0]["card"]["images"]["scored"]
    figure = new_figure(7.5, 4.8)
    plot = figure.subplots()
    curves = {**AXIS_COLOURS, "mean of the three": BLACK}
    for key, (name, colour) in zip(MAE_KEYS, curves.items(), strict=True):
        value, low, high = np.array([result["estimates"][key][:3] for result in results]).T
        plot.plot(margins, value, "o-", color=shade(colour), label=name, markersize=4)
        plot.fill_between(margins, low, high, color=shade(colour), alpha=0.2, linewidth=0)
    for margin, _ in marked:
        plot.axvline(margin, color="0.45", linestyle=":", zorder=0)
    plot.secondary_xaxis("top").set_xticks(*zip(*marked, strict=True), rotation=25, ha="left", size=9)
    plot.set(xlabel="margin (share of the box added on each side)", ylabel="mean absolute error (degrees)")
    plot.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(curves), frameon=False)
    bands = "bands: 95% intervals" if np.isfinite(results[0]["estimates"]["mae"][1]) else "no intervals"
    title = f"{title}, {images:,} images: error by margin, {bands}"
    figure.suptitle("\n".join(textwrap.wrap(title, 80)))
    save(figure, path)
