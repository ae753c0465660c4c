"""Everything that draws: poses on pictures, heat maps over pictures, contact sheets, plots, the network's diagram.

Arrays in; a new RGB picture out, or a PNG on disk where a `path` is asked for.  Throughout:

- picture: (rows, columns, 3) RGB uint8, never changed in place;
- angles: (3,) yaw, pitch, roll in radians in the signs of the lists (see `data_loaders`);
- centre: (2,) x (to the right), y (down) in pixels, whole numbers at the middle of a pixel;
- box: (3,) row, column, size in pixels, as in the lists; it may reach beyond the picture;
- alpha: in [0, 1], how much of a map's colour replaces the picture;
- anything else (a wrong shape or type, values that are not finite or out of range) raises `InputError`.

Each angle has one colour everywhere, and each axis of the head bears the colour of the angle that turns the head about
it.  So the usual order of head-pose drawings is kept (red to the right, green down, blue along the nose), in hues of
the Okabe-Ito palette that colour-blind readers can tell apart.
"""

import functools
import itertools
import math
import textwrap
from pathlib import Path

import cv2
import numpy as np

from data_loaders import AXES, crop, image_path, read_image, rotation_matrix
from util import metrics
from util.errors import InputError
from util.protocol import MAE_KEYS
from util.tables import heading, title_of

# Okabe & Ito, "Color Universal Design", 2008.
BLACK, WHITE, GREY, YELLOW, PURPLE = (0, 0, 0), (255, 255, 255), (110, 110, 110), (240, 228, 66), (204, 121, 167)
AXIS_COLOURS = {"yaw": (0, 158, 115), "pitch": (213, 94, 0), "roll": (0, 114, 178)}
SPARE_COLOURS = (BLACK, PURPLE, (230, 159, 0), (86, 180, 233))  # for curves that are not an axis
TURNED_BY = ("pitch", "yaw", "roll")  # the angle that turns about column 0, 1, 2 of the rotation matrix
AXES_LEGEND = "red: the head's axis to the right of the picture · green: down to the chin · blue: along the nose"
STYLES = ("axes", "cube", "both")
_SHIFT = 4  # cv2 draws in sixteenths of a pixel
_FLAT = 1e-3  # a map whose range is below this fraction of its maximum has nothing that stands out
_LENGTHS = (0.5, 1e6)  # pixels that make sense
_WORD_GAP = 0.6  # in sizes of the text
_SQUARE = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)])


# --- Checks -----------------------------------------------------------------------------------------------------------
def _checked_picture(picture):
    """A writable copy of a picture."""
    shape, dtype = getattr(picture, "shape", ()), getattr(picture, "dtype", None)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        raise InputError(
            f"A picture of type {dtype or type(picture).__name__} and shape {shape} was given; expected an RGB uint8 "
            "array (rows, columns, 3): convert it first, e.g. cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)."
        )
    return np.array(picture, order="C")


def _checked(values, shape, what, within=(-np.inf, np.inf)):
    """A finite float array of `shape`, where None is any length from 1, with values `within` two bounds."""
    try:
        array = np.asarray(values, float)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: {values!r} was given; expected numbers of shape {shape}.") from error
    fits = array.ndim == len(shape) and array.size > 0
    if not fits or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True)):
        raise InputError(f"{what}: shape {array.shape} was given; expected {shape}, where None is any length from 1.")
    if bad := np.count_nonzero(~np.isfinite(array)):
        raise InputError(f"{what}: {bad} of {array.size} values are not finite; leave these samples out and say so.")
    if array.min() < within[0] or array.max() > within[1]:
        bounds = f"{array.min():g} to {array.max():g} was given; expected values from {within[0]:g} to {within[1]:g}"
        raise InputError(f"{what}: {bounds}: rescale or correct them.")
    return array


# --- Poses on pictures ------------------------------------------------------------------------------------------------
def axis_points(angles, centre, length):
    """(3, 2) x, y in pixels: the ends of the head's axes to the right, down to the chin and along the nose.

    Orthographic projection of axes that start at `centre`; one that lies in the picture plane is `length` pixels long.
    """
    rotation = rotation_matrix(_checked(angles, (3,), "Angles (yaw, pitch, roll in radians)"))
    centre = _checked(centre, (2,), "Centre (x, y in pixels)")
    return centre + _checked(length, (), "Length in pixels", _LENGTHS) * rotation[:2].T


def draw_axes(picture, angles, centre, length, colour=None):
    """Draw the head's axes of `axis_points`, the one nearest to the viewer last; the nose ends in a disc.

    `colour` draws all three in one RGB colour, to tell a second pose (say, the true one) from the first.
    """
    canvas, ends, width = _checked_picture(picture), axis_points(angles, centre, length), _line_width(length)
    for axis in np.argsort(rotation_matrix(angles)[2]):
        shade = colour or AXIS_COLOURS[TURNED_BY[axis]]
        _line(canvas, (centre, ends[axis]), shade, width)
        if TURNED_BY[axis] == "roll":  # seen from the front the nose axis is a point: it needs a mark
            _line(canvas, (ends[axis], ends[axis]), shade, 3 * width + 2)
    return canvas


def draw_cube(picture, angles, centre, size):
    """Draw a cube with edges of `size` pixels that turns with the head: hidden edges thin, the front face filled.

    The fill is fainter where the head looks away from the viewer and its front face lies behind.
    """
    axes, depth = axis_points(angles, (0, 0), size), rotation_matrix(angles)[2]  # depth: towards the viewer
    grid = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3, indexing="ij"), axis=-1)  # (2, 2, 2, 3) right, down, nose
    corners, canvas = _checked(centre, (2,), "Centre (x, y in pixels)") + grid @ axes, _checked_picture(picture)
    visible, width = [], _line_width(size / 2)
    for axis, first, second in itertools.product(range(3), (0, 1), (0, 1)):
        ends = [corners[tuple(np.insert((first, second), axis, end))] for end in (0, 1)]
        towards = np.delete(depth, axis) * (2 * first - 1, 2 * second - 1)  # of the two faces that meet in this edge
        if (towards > 0).any():
            visible.append((ends, AXIS_COLOURS[TURNED_BY[axis]]))
        else:
            _line(canvas, ends, AXIS_COLOURS[TURNED_BY[axis]], width // 2, cased=False)
    filled, strength = canvas.copy(), 0.4 if depth[2] > 0 else 0.15
    cv2.fillPoly(filled, [_fixed(corners[(*_SQUARE.T, 1)])], YELLOW, cv2.LINE_AA, _SHIFT)
    canvas = cv2.addWeighted(filled, strength, canvas, 1 - strength, 0)
    for ends, colour in visible:
        _line(canvas, ends, colour, width)
    return canvas


def draw_box(picture, row, column, size, *, label=None, colour=YELLOW):
    """Draw a box of top left pixel (row, column), with its label above it or wherever that is inside the picture."""
    canvas, (row, column) = _checked_picture(picture), _checked((row, column), (2,), "Box (row, column)")
    size = _checked(size, (), "Size of the box in pixels", _LENGTHS)
    for ends in itertools.pairwise((size - 1) * _SQUARE + (column, row)):
        _line(canvas, ends, colour, max(1, _line_width(size / 2) // 2))
    if label:
        _write(canvas, [[(label, BLACK)]], (column, row), _text_size(canvas, size))
    return canvas


def draw_pose(picture, box, angles, style="axes", caption=None):
    """Draw a head's box, its pose as "axes", "cube" or "both", and below a line of `caption` its angles in degrees."""
    if style not in STYLES:
        raise InputError(f"Style {style!r} was given; expected one of {', '.join(STYLES)}.")
    row, column, size = _checked(box, (3,), "Box (row, column, size)")
    canvas, centre = draw_box(picture, row, column, size, colour=WHITE), np.array((column, row)) + (size - 1) / 2
    if style in ("cube", "both"):
        canvas = draw_cube(canvas, angles, centre, 0.6 * size)
    if style in ("axes", "both"):
        canvas = draw_axes(canvas, angles, centre, 0.6 * size)
    degrees, text_size = np.degrees(_checked(angles, (3,), "Angles")), _text_size(canvas, size)
    words = [(f"{axis} {angle:+.1f}°", AXIS_COLOURS[axis]) for axis, angle in zip(AXES, degrees, strict=True)]
    rows = [words] if _row_width(words) * text_size < 0.95 * canvas.shape[1] else [[word] for word in words]
    _write(canvas, [[(caption, BLACK)], *rows] if caption else rows, (column, row), text_size)
    return canvas


def _line_width(length):
    return round(float(length) / 35)  # 0 is a hairline: too small a drawing for casings


def _fixed(points):
    """Pixels → the fixed-point integers of cv2, kept within what its 32 bits can hold."""
    return np.clip(np.round(np.asarray(points, float) * 2**_SHIFT), -(2**28), 2**28).astype(np.int32)


def _line(canvas, ends, colour, width, cased=True):
    """A line whose casing, white or for pale colours black, sets it off from skin, hair and background alike."""
    ends = _fixed(ends).tolist()
    if cased and width:
        cv2.line(canvas, *ends, BLACK if sum(colour) > 450 else WHITE, width + 2, cv2.LINE_AA, _SHIFT)
    cv2.line(canvas, *ends, colour, max(1, width), cv2.LINE_AA, _SHIFT)


@functools.lru_cache(maxsize=512)
def _glyphs(text):
    """Outlines of a text at size 1, y down, and its width; cv2's own letters lack the degree sign and every accent."""
    from matplotlib.textpath import TextPath

    path = TextPath((0, 0), text.replace("$", r"\$"), size=100, prop={"weight": "bold"})
    polygons = [np.asarray(polygon) * (0.01, -0.01) for polygon in path.to_polygons()]
    return polygons, max((polygon[:, 0].max() for polygon in polygons), default=0.0)


def _row_width(words):
    return sum(_glyphs(text)[1] for text, _ in words) + _WORD_GAP * (len(words) - 1)


def _text_size(canvas, box_size):
    """Pixels: follows the box, but stays legible when the whole picture is seen on a screen."""
    smallest = max(13.0, 0.015 * max(canvas.shape[:2]))
    return float(np.clip(0.075 * box_size, smallest, max(smallest, 0.045 * min(canvas.shape[:2]))))


def _write(canvas, rows, corner, size):
    """Write rows of (text, colour) above `corner` (x, y), in place: moved, and shrunk if need be, into the picture."""
    height, width = canvas.shape[:2]
    wide, high = max(map(_row_width, rows)) + 0.8, 1.25 * len(rows) + 0.2
    size = min(size, width / wide, height / high)
    limits = width - wide * size, height - high * size
    left, top = np.clip((corner[0], corner[1] - high * size), 0, limits).astype(int)
    patch = canvas[top : top + int(high * size) + 1, left : left + int(wide * size) + 1]
    for number, words in enumerate(rows):
        x, baseline = 0.4, 1.25 * number + 1
        for text, colour in words:
            outlines, advance = _glyphs(text)
            letters = [np.round(np.add(outline, (x, baseline)) * size * 4).astype(np.int32) for outline in outlines]
            _ink(patch, letters, WHITE, round(0.9 * size))
            _ink(patch, letters, colour, 1)
            x += advance + _WORD_GAP


def _ink(patch, letters, colour, pen):
    """Fill and trace outlines given in quarters of a pixel, in place; cv2's own anti-aliasing clogs small letters."""
    mask = np.zeros((4 * patch.shape[0], 4 * patch.shape[1]), np.uint8)
    cv2.polylines(cv2.fillPoly(mask, letters, 255), letters, True, 255, max(1, pen))
    part = cv2.resize(mask, patch.shape[1::-1], interpolation=cv2.INTER_AREA)[..., None] / 255
    patch[:] = np.round(patch + part * (np.array(colour) - patch))


# --- Maps over pictures -----------------------------------------------------------------------------------------------
def overlay_heat(picture, heat, alpha=0.5):
    """Lay a heat map, (any, any) in [0, 1], over the whole of a picture; a constant map is drawn as nothing hot."""
    canvas, heat = _checked_picture(picture), _checked(heat, (None, None), "Heat map", (0, 1))
    alpha = float(_checked(alpha, (), "Alpha", (0, 1)))
    rows, columns = canvas.shape[:2]
    heat = heat if np.ptp(heat) > 0 else np.zeros_like(heat)
    shrinks = heat.shape[0] > rows or heat.shape[1] > columns
    heat = cv2.resize(heat, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    levels = np.clip(heat * 255, 0, 255).round().astype(np.uint8)  # cubic interpolation overshoots
    coloured = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1]  # even in lightness, colour-blind safe
    return cv2.addWeighted(coloured, alpha, canvas, 1 - alpha, 0)


def region_heat(weights, boxes, shape):
    """Spread each region's weight evenly over its area and add the regions up: an array of `shape` (rows, columns).

    `weights`: (n,) none below 0; `boxes`: (n, 4) row0, column0, row1, column1 as fractions of the crop.  The result is
    weight per unit of the crop's area: its mean is the sum of the weights.
    """
    weights = _checked(weights, (None,), "Weights of the regions", (0, np.inf))
    boxes = _checked(boxes, (len(weights), 4), "Boxes of the regions, in fractions of the crop", (0, 1))
    if (boxes[:, 2:] <= boxes[:, :2]).any():
        raise InputError("Boxes of the regions: an empty box was given; expected row0 < row1 and column0 < column1.")
    edges = [np.arange(count + 1) / count for count in shape]
    # (n, cells): the part of each row and each column of cells that lies in each region
    down, across = (np.diff(np.clip(edges[k], boxes[:, [k]], boxes[:, [k + 2]])) * shape[k] for k in (0, 1))
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.einsum("n,nr,nc->rc", weights / areas, down, across, optimize=True)


def _stretch(heat):
    """To [0, 1], lowest to highest; all 0 where the differences are no more than rounding."""
    span = np.ptp(heat)
    return (heat - heat.min()) / span if span > _FLAT * heat.max() else np.zeros_like(heat)


def overlay_regions(picture, weights, boxes, alpha=0.5):
    """Lay the weights of the coarse-to-fine regions (see `region_heat`) over a picture, lowest to highest."""
    return overlay_heat(picture, _stretch(region_heat(weights, boxes, _checked_picture(picture).shape[:2])), alpha)


def overlay_attention(picture, weights, cell=None, alpha=0.5):
    """Lay one row of a self-attention matrix, or an average of rows, over a picture, stretched lowest to highest.

    `weights`: (n*n,) over the cells of the n x n map, row by row (49 for 7 x 7); `cell`: the one that asks, marked.
    """
    weights = _checked(weights, (None,), "Attention weights", (0, np.inf))
    side = round(len(weights) ** 0.5)
    if side**2 != len(weights) or not (cell is None or 0 <= cell < len(weights)):
        given = f"{len(weights)} attention weights and cell {cell} were given"
        raise InputError(f"{given}; expected one row of the matrix (49 weights for 7 x 7 cells) and a cell on the map.")
    canvas = overlay_heat(picture, _stretch(weights.reshape(side, side)), alpha)
    if cell is not None:
        scale = np.array(canvas.shape[1::-1]) / side
        for ends in itertools.pairwise((_SQUARE + divmod(int(cell), side)[::-1]) * scale - 0.5):
            _line(canvas, ends, AXIS_COLOURS["yaw"], max(1, round(scale.min() / 16)))
    return canvas


# --- Sheets of pictures -----------------------------------------------------------------------------------------------
def panel(pictures, titles, columns, *, title=None, footnote=None, tile=280, below=False):
    """A grid of pictures, the longer side of each scaled to `tile` pixels, with its title above it or `below` it."""
    pictures = [_fitted(picture, tile) for picture in pictures]
    if not pictures or len(pictures) != len(titles) or columns < 1:
        given = f"{len(pictures)} pictures, {len(titles)} titles and {columns} columns were given"
        raise InputError(f"{given}; expected a title for each picture, at least one picture and at least one column.")
    gap, columns, high = 16, min(columns, len(pictures)), max(len(picture) for picture in pictures)
    wide = columns * (tile + gap) + gap
    titles = [_wrapped(text, tile) for text in titles]
    head, foot = _wrapped(title, wide * 0.7), _wrapped(footnote, wide)
    above = 17 * max(map(len, titles)) + 8
    top, step = gap + 24 * len(head), high + above + gap
    bottom = top + -(-len(pictures) // columns) * step
    canvas = np.full((bottom + 17 * len(foot) + (gap if foot else 0), wide, 3), 255, np.uint8)
    texts = [(head, gap, gap // 2, "left", "top", 12), (foot, gap, bottom, "left", "top", 9)]
    for number, (picture, text) in enumerate(zip(pictures, titles, strict=True)):
        x, y = gap + number % columns * (tile + gap), top + number // columns * step + (0 if below else above)
        rows, cols = picture.shape[:2]
        y0, x0 = y + (high - rows) // 2, x + (tile - cols) // 2
        canvas[y0 : y0 + rows, x0 : x0 + cols] = picture
        texts.append((text, x + tile / 2, y + (high + 4 if below else -4), "center", "top" if below else "bottom", 9))
    return _with_texts(canvas, texts)


def contact_sheet(tiles, captions, columns, *, title=None, footnote=None, tile=240):
    """Many pictures on one sheet (the worst ones, say), captions below: see `panel`."""
    return panel(tiles, captions, columns, title=title, footnote=footnote, tile=tile, below=True)


def _wrapped(text, pixels):
    """The lines of a text in small letters (9 points, 17 pixels a line) that has so many pixels across."""
    wrap = functools.partial(textwrap.wrap, width=max(1, int(pixels / 7.4)))
    return [part for line in str(text or "").splitlines() for part in wrap(line) or [""]]


def _fitted(picture, tile):
    scale = tile / max(_checked_picture(picture).shape[:2])
    columns, rows = (max(1, round(side * scale)) for side in picture.shape[1::-1])
    return cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _with_texts(canvas, texts, dpi=100):
    """Write (lines, x, y, horizontal alignment, vertical alignment, points) on a canvas in the letters of the plots."""
    height, width = canvas.shape[:2]
    figure = _figure(width / dpi, height / dpi, dpi=dpi, layout=None)
    figure.figimage(canvas)
    for lines, x, y, across, along, points in texts:
        figure.text(x / width, 1 - y / height, "\n".join(lines), ha=across, va=along, size=points, parse_math=False)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()


def save_image(picture, path):
    """Write a picture as PNG."""
    Path(path).write_bytes(cv2.imencode(".png", _checked_picture(picture)[..., ::-1])[1].tobytes())


# --- Plots ------------------------------------------------------------------------------------------------------------
def _figure(width, height, dpi=120, layout="constrained"):
    """A figure in inches with a canvas of its own: nothing global, so nothing leaks from one plot into the next."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    return FigureCanvasAgg(Figure((width, height), dpi=dpi, layout=layout, facecolor="white")).figure


def _save(figure, path):
    figure.savefig(path, format="png", metadata={"Software": None})  # so that the same plot gives the same bytes


def plot_error_by_angle(true_degrees, error_degrees, path, *, title=None, bin_degrees=10, fewest=10):
    """Plot absolute error against true angle for each axis: median, 25-75 % and 5-95 % in each bin, counts below.

    `true_degrees`, `error_degrees`: (n, 3) yaw, pitch, roll.  A bin with fewer than `fewest` samples shows each of
    them; errors that would squeeze the plot become triangles at its upper edge.
    """
    true = _checked(true_degrees, (None, 3), "True angles in degrees")
    error = abs(_checked(error_degrees, true.shape, "Errors in degrees"))
    summaries = [_binned(*pair, bin_degrees, fewest) for pair in zip(true.T, error.T, strict=True)]
    bands = np.concatenate([spread[:, 4] for _, _, spread, _ in summaries])
    limit = 1.15 * max(np.nanmax(bands) if np.isfinite(bands).any() else error.max(), 0.1)
    figure, wide = _figure(11, 5), 0.94 * bin_degrees
    plots = figure.subplots(2, 3, sharex="col", sharey="row", height_ratios=(4, 1))
    for axis, (middle, counts, spread, sparse) in enumerate(summaries):
        name, colour, (upper, lower) = AXES[axis], np.divide(AXIS_COLOURS[AXES[axis]], 255), plots[:, axis]
        for low, high, alpha, label in ((0, 4, 0.18, "5-95 %"), (1, 3, 0.45, "25-75 %")):
            base, tall = spread[:, low], spread[:, high] - spread[:, low]
            upper.bar(middle, tall, wide, base, color=colour, alpha=alpha, label=label)
        upper.plot(middle, spread[:, 2], "o-", color=colour, markersize=4, label="median")
        x, y = true[sparse, axis], error[sparse, axis]
        upper.plot(x[y <= limit], y[y <= limit], ".", color="0.45", label=f"each error of a bin with < {fewest}")
        upper.plot(x[y > limit], 0 * x[y > limit] + 0.98 * limit, "^", color="black", label=f"... above {limit:.0f}°")
        upper.set(title=f"{name} (n = {len(true):,})", ylim=(0, limit))
        upper.grid(axis="y", alpha=0.3)
        lower.bar(middle, counts, wide, color=colour)
        lower.set(xlabel=f"true {name} (degrees)", yscale="log")
    plots[0, 0].set_ylabel("absolute error (degrees)")
    plots[1, 0].set(ylabel="samples", ylim=(0.7, 2 * max(6, *(counts.max() for _, counts, _, _ in summaries))))
    plots[1, 0].yaxis.set_major_formatter("{x:g}")
    figure.suptitle(title or "Absolute error against true angle")
    figure.legend(*plots[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    _save(figure, path)


def _binned(angle, error, width, fewest):
    """Middles, counts, (bins, 5) percentiles 5, 25, 50, 75, 95 (NaN in sparse bins), and which samples lie in those."""
    which = np.floor(angle / width).astype(int)
    bins = np.arange(which.min(), which.max() + 1)
    counts = np.array([np.count_nonzero(which == number) for number in bins])
    spread = np.full((len(bins), 5), np.nan)
    for row in np.flatnonzero(counts >= fewest):
        spread[row] = np.percentile(error[which == bins[row]], (5, 25, 50, 75, 95))
    return (bins + 0.5) * width, counts, spread, counts[which - bins[0]] < fewest


def plot_margin_sweep(margins, values, path, *, marked=(), low=None, high=None, title=None):
    """Plot error against the margin at test time, with marked margins such as (0.2, "paper: 0.2").

    `margins`: (n,); `values`, and `low`, `high` for bands: {name: (n,) degrees}; `marked`: (margin, label) pairs.
    """
    margins, figure = _checked(margins, (None,), "Margins"), _figure(7.5, 4.8)
    plot = figure.subplots()
    spare = itertools.cycle(SPARE_COLOURS)
    for name, errors in values.items():
        colour = np.divide(AXIS_COLOURS[name] if name in AXIS_COLOURS else next(spare), 255)
        curve = _checked(errors, margins.shape, f"Errors of {name}")
        plot.plot(margins, curve, "o-", color=colour, label=name, markersize=4)
        if low and high:
            edges = [_checked(band[name], margins.shape, f"Band of {name}") for band in (low, high)]
            plot.fill_between(margins, *edges, color=colour, alpha=0.2, linewidth=0)
    for margin, _ in marked:
        plot.axvline(margin, color="0.45", linestyle=":", zorder=0)
    if marked:
        top = plot.secondary_xaxis("top")
        top.set_xticks(*zip(*marked, strict=True), rotation=25, ha="left", size=9)
    plot.set(xlabel="margin γ (box sizes added on each side)", ylabel="mean absolute error (degrees)")
    plot.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    figure.suptitle(title or "Error against the margin at test time")
    _save(figure, path)


def draw_architecture(trunk, branch, path, title=None):
    """Draw the network: the trunk's stages, then the branch's stages once for each axis in its colour.

    `trunk`, `branch`: lists of (label, shape), shape a tuple of sizes, read off the real model.
    """
    levels, step = len(trunk) + len(branch) + 0.5, 0.85
    figure = _figure(9.5, levels * step + 1.35, layout=None)
    plot = figure.add_axes((0, 0, 1, 1), xlim=(-4.75, 4.75), ylim=(-levels * step - 0.45, 0.9))
    plot.set_axis_off()
    plot.text(0, 0.65, title or "RAFA-Net", ha="center", size=14, weight="bold")
    for level, (label, shape) in enumerate(trunk):
        _block(plot, (0, -level * step), label, shape, GREY)
        if level:
            _arrow(plot, (0, -(level - 1) * step), (0, -level * step))
    for x, axis in zip((-3.15, 0, 3.15), AXES, strict=True):
        above = (0, -(len(trunk) - 1) * step)
        for level, (label, shape) in enumerate([*branch, (axis, ())], len(trunk)):
            here = (x, -(level + 0.5) * step)
            _block(plot, here, label, shape, AXIS_COLOURS[axis])
            _arrow(plot, above, here)
            above = here
    _save(figure, path)


def _block(plot, middle, label, shape, colour):
    from matplotlib.patches import FancyBboxPatch

    (x, y), wide = middle, 3.0 if shape else 1.6
    face, ink = ((*np.divide(colour, 255), 0.14), "black") if shape else (np.divide(colour, 255), "white")
    corner, style = (x - wide / 2, y - 0.28), "round,pad=0,rounding_size=0.1"
    plot.add_patch(FancyBboxPatch(corner, wide, 0.56, style, facecolor=face, edgecolor=np.divide(colour, 255)))
    plot.text(x, y + (0.1 if shape else 0), label, ha="center", va="center", size=10, weight="bold", color=ink)
    plot.text(x, y - 0.14, " × ".join(map(str, shape)), ha="center", va="center", size=9, family="monospace")


def _arrow(plot, above, below):
    ends = np.add(below, (0, 0.28)), np.add(above, (0, -0.28))
    plot.annotate("", *ends, arrowprops={"arrowstyle": "-|>", "color": "0.3", "shrinkA": 0, "shrinkB": 0})


# --- Pictures ---------------------------------------------------------------------------------------------------------
_SHEET_NOTE = (
    "Each tile: the box of the list (yellow) with half its size around it; black lies outside the picture.  Predicted "
    f"pose in colours ({AXES_LEGEND}), true pose in white; the nose ends in a disc.  Below: "
    "mean error of the three angles, and each angle, true → predicted, in degrees."
)
_TILE = 336  # pixels


def draw_worst(path, listed, result):
    """The contact sheet of the worst images, with the box, the true and the predicted pose drawn on each."""
    record_of = {record["path"]: record for record in listed.records}
    tiles, captions = [], []
    for row in result["worst"]:
        record = record_of[row["path"]]
        tiles.append(pose_tile(read_image(image_path(listed, record)), record, row))
        pairs = zip(AXES, row["true"], row["predicted"], strict=True)
        angles = [f"{axis} {true:+.0f} → {found:+.0f}" for axis, true, found in pairs]
        captions.append("\n".join(["/".join(Path(row["path"]).parts[-2:]), f"{row['mae']:.1f}° off", *angles]))
    title = f"{heading(result['card'])}: the {len(tiles)} images with the largest mean error of the three angles"
    save_image(contact_sheet(tiles, captions, 5, title=title, footnote=_SHEET_NOTE), path)


def pose_tile(picture, record, row):
    """(336, 336, 3) RGB: a box and its surroundings, the true pose in white and the predicted one in colours."""
    grow = int(record["size"] * 0.5)
    scale = _TILE / (record["size"] + 2 * grow)
    tile = cv2.resize(crop(picture, record["row"], record["column"], record["size"], 0.5), (_TILE, _TILE))
    tile = draw_box(tile, grow * scale, grow * scale, record["size"] * scale)
    centre, length = (_TILE / 2, _TILE / 2), 0.55 * record["size"] * scale
    tile = draw_axes(tile, np.radians(row["true"]), centre, length, colour=WHITE)
    return draw_axes(tile, np.radians(row["predicted"]), centre, 0.85 * length)


def draw_error_by_angle(path, predictions, card):
    """Absolute error against true angle, an axis beside the other."""
    title = f"{heading(card)}, {len(predictions):,} images: error against true angle"
    errors = metrics.angle_errors(predictions.true, predictions.predicted)
    plot_error_by_angle(predictions.true, errors, path, title=title)


def draw_sweep(path, results, marked):
    """Mean absolute error against the margin at test time, with the margins of `marked` (margin, label) named."""
    bands = {}
    for field in ("value", "low", "high"):
        rows = [[_edge(result["estimates"][key], field) for result in results] for key in MAE_KEYS]
        bands[field] = dict(zip((*AXES, "mean of the three"), rows, strict=True))
    card = results[0]["card"]
    bands_text = "no intervals" if math.isnan(results[0]["estimates"]["mae"].low) else "bands: 95 %"
    title = f"{title_of(card)}, {card['images']['scored']:,} images: error by margin, {bands_text}"
    title = "\n".join(textwrap.wrap(title, 34))  # the legend stands to the right of it
    margins = [result["card"]["margin"] for result in results]
    low, high = bands["low"], bands["high"]
    plot_margin_sweep(margins, bands["value"], path, marked=marked, low=low, high=high, title=title)


def _edge(estimate, field):
    number = getattr(estimate, field)
    return estimate.value if math.isnan(number) else number
