"""Plots hold the numbers they were given, where they belong, and name units and colours."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from rafa.pose import AXES, AXIS_COLOURS
from rafa.score import plots
from rafa.score.metrics import Estimate
from rafa.score.predictions import Predictions


def predictions_of(target, error):
    return Predictions([f"{number}.png" for number in range(len(target))], target, np.add(target, error))


def is_colour(artist_colour, axis):
    return to_rgb(artist_colour) == pytest.approx(np.divide(AXIS_COLOURS[axis], 255), abs=1e-6)


# --- Error by angle ---------------------------------------------------------------------------------------------------
def test_each_axis_shows_its_own_errors_against_its_own_true_angle(drawn):
    target = np.concatenate([np.tile((5.0, 15.0, 25.0), (10, 1)), [(-35.0, 15, 25)]])
    error = np.concatenate([np.tile((1.0, -2.0, 4.0), (10, 1)), [(-90.0, 2, 4)]])
    plots.draw_error_by_angle("x.png", predictions_of(target, error), "AFLW2000, margin 0.2")
    [figure] = drawn
    panels = np.reshape(figure.axes, (2, 3))
    for column, (middle, median) in enumerate(((5, 1), (15, 2), (25, 4))):
        upper, lower = panels[:, column]
        line = upper.lines[0]
        at = np.flatnonzero(line.get_xdata() == middle)
        assert line.get_ydata()[at].tolist() == [median] and is_colour(line.get_color(), AXES[column])
        assert upper.get_title() == AXES[column] and lower.get_xlabel() == f"true {AXES[column]} (degrees)"
        bars = {bar.get_x() + bar.get_width() / 2: bar.get_height() for bar in lower.patches}
        assert bars[middle] == (10 if column == 0 else 11)
    assert panels[0, 0].lines[0].get_xdata().tolist() == [5]  # a bin of one image is only counted
    assert [bar.get_height() for bar in panels[1, 0].patches] == [1, 10]
    assert figure.get_suptitle() == "AFLW2000, margin 0.2, 11 images: error against true angle"
    assert panels[0, 0].get_ylabel() == "absolute error (degrees)"


def test_bands_reach_from_percentile_to_percentile(drawn):
    error = np.arange(21.0)[:, None] * (1, 1, 1)
    plots.draw_error_by_angle("x.png", predictions_of(np.full((21, 3), 5.0), error), "title")
    assert drawn[0].axes[0].lines[0].get_ydata().tolist() == [10], "the median"
    wide, narrow = drawn[0].axes[0].patches
    assert (wide.get_y(), wide.get_y() + wide.get_height()) == pytest.approx((1, 19))
    assert (narrow.get_y(), narrow.get_y() + narrow.get_height()) == pytest.approx((5, 15))
    labels = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    assert set(labels) == {"5-95%", "25-75%", "median"}


@pytest.mark.parametrize("count", [1, 5, 400])
def test_any_number_of_images_is_plotted_and_written(tmp_path, count):
    rng = np.random.default_rng(3)
    answers = predictions_of(rng.normal(0, 30, (count, 3)), rng.normal(0, 4, (count, 3)))
    plots.draw_error_by_angle(tmp_path / "a.png", answers, "title")
    image = cv2.imread(str(tmp_path / "a.png"))[..., ::-1]
    assert all((image == colour).all(axis=-1).sum() > 50 for colour in AXIS_COLOURS.values())


# --- Error by margin --------------------------------------------------------------------------------------------------
KEYS = ("mae_yaw", "mae_pitch", "mae_roll", "mae")


def results(half_width):
    return [
        {
            "card": {"margin": margin, "images": {"scored": 1234}},
            "estimates": {
                key: Estimate(k + margin, k + margin - half_width, k + margin + half_width, 9, None)
                for k, key in enumerate(KEYS, start=1)
            },
        }
        for margin in (0.0, 0.1, 0.2)
    ]


def test_each_curve_has_the_values_and_intervals_of_its_metric(drawn):
    plots.draw_sweep("x.png", results(0.5), [(0, "released code"), (0.2, "paper: MAE 4.12")], "title")
    [figure] = drawn
    plot, above = figure.axes[0], figure.axes[0].child_axes[0]
    for k, (line, band) in enumerate(zip(plot.lines, plot.collections, strict=False), start=1):
        np.testing.assert_allclose(line.get_ydata(), k + np.array((0, 0.1, 0.2)))
        np.testing.assert_allclose(line.get_xdata(), (0, 0.1, 0.2))
        edges = band.get_paths()[0].vertices
        assert (edges[:, 1].min(), edges[:, 1].max()) == pytest.approx((k - 0.5, k + 0.7))
        assert k == 4 or is_colour(line.get_color(), AXES[k - 1])
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == [*AXES, "mean of the three"]
    assert [line.get_xdata()[0] for line in plot.lines[4:]] == [0, 0.2]
    assert [tick.get_text() for tick in above.get_xticklabels()] == ["released code", "paper: MAE 4.12"]
    assert above.get_xticks().tolist() == [0, 0.2]
    assert "margin" in plot.get_xlabel() and "degrees" in plot.get_ylabel()
    assert figure.get_suptitle() == "title, 1,234 images: error by margin, bands: 95% intervals"


def test_a_sweep_without_intervals_says_so(drawn):
    plots.draw_sweep("x.png", results(np.nan), [(0.1, "here")], "title")
    assert drawn[0].get_suptitle().endswith("no intervals")


def test_the_same_plot_gives_the_same_file(tmp_path):
    for name in ("one.png", "two.png"):
        plots.draw_sweep(tmp_path / name, results(0.5), [(0.1, "here")], "title")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_plots_load_matplotlib_when_they_are_drawn_and_touch_no_global_state(tmp_path):
    code = f"""
import sys
from rafa.score import plots
assert "matplotlib" not in sys.modules
plots.save(plots.new_figure(2, 2), {str(tmp_path / "m.png")!r})
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    assert (tmp_path / "m.png").is_file()
