"""The shape and the colours of a synthetic head: who it is, and what surfaces it has.

A head is a set of surfaces (skin, hair, ears, glasses), sampled densely enough to be drawn as points. Lengths are in
centimetres. The origin lies between the ears; the axes are the image axes of `data_loaders` (x right, y down, z towards
the viewer) when the head looks into the camera.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

SKIN_TONES = np.array([(238, 202, 182), (222, 176, 148), (190, 140, 105), (141, 94, 66), (104, 72, 56)], float)
HAIR_TONES = np.array(
    [(30, 24, 22), (62, 42, 30), (158, 156, 152), (108, 72, 44), (198, 162, 104), (152, 78, 42)], float
)
IRIS_TONES = np.array([(70, 45, 28), (95, 68, 36), (74, 100, 84), (84, 118, 150)], float)
HAIR_STYLES = ("bald", "short", "full", "fringe", "long", "bun", "afro")
# Horizontal sections of the skull and jaw from crown to chin: height y, half width, front z, back z.
# fmt: off
SECTIONS = np.array([
    -11.6, 0.0, -1.0, -1.0, -11.3, 2.9, 2.2, -4.6, -10.2, 5.0, 5.4, -7.2, -8.0, 6.6, 7.8, -9.1, -5.0, 7.3, 8.9,
    -9.9, -2.0, 7.5, 9.3, -10.0, 0.0, 7.4, 9.0, -9.8, 2.5, 7.2, 9.0, -9.0, 5.0, 6.8, 9.0, -7.4, 7.0, 6.2, 9.0,
    -4.2, 9.0, 5.1, 8.7, 0.2, 10.6, 3.8, 8.5, 3.4, 11.6, 2.2, 7.6, 5.0, 11.9, 0.0, 6.4, 6.4,
]).reshape(-1, 4)
# How low the hair grows, by the angle from the face round to the nape (degrees): forehead, temple, sideburn, nape.
HAIRLINE_ANGLE = (0, 30, 50, 64, 76, 88, 100, 120, 180)
HAIRLINE = (-7.2, -7.0, -5.2, -2.0, 1.6, 0.0, 3.0, 6.0, 6.8)
# The 51 landmarks on the face (68-point order after the 17 of the jaw) as x, y; the jaw is found by angle and height.
FACE_POINTS = np.array([
    -5.4, -1.7, -4.6, -2.3, -3.5, -2.5, -2.5, -2.3, -1.4, -1.9, 1.4, -1.9, 2.5, -2.3, 3.5, -2.5, 4.6, -2.3, 5.4,
    -1.7, 0, -0.2, 0, 1.3, 0, 2.8, 0, 4.3, -1.3, 5.2, -0.7, 5.4, 0, 5.5, 0.7, 5.4, 1.3, 5.2, -4.7, 0.1, -3.7,
    -0.5, -2.7, -0.5, -1.8, 0.2, -2.7, 0.6, -3.7, 0.6, 1.8, 0.2, 2.7, -0.5, 3.7, -0.5, 4.7, 0.1, 3.7, 0.6, 2.7,
    0.6, -2.5, 7.3, -1.6, 6.8, -0.6, 6.6, 0, 6.7, 0.6, 6.6, 1.6, 6.8, 2.5, 7.3, 1.6, 7.9, 0.6, 8.2, 0, 8.2, -0.6,
    8.2, -1.6, 7.9, -2.2, 7.3, -0.7, 7.2, 0, 7.2, 0.7, 7.2, 2.2, 7.3, 0.7, 7.4, 0, 7.4, -0.7, 7.4,
]).reshape(-1, 2)
# fmt: on
JAW_HEIGHTS = (0.3, 2.6, 4.9, 7.0, 8.8, 10.1, 11.0, 11.5, 11.7)
# Standard deviations of the factors in which people differ.
SPREAD = {
    **{"width": 0.04, "length": 0.04, "depth": 0.04, "jaw": 0.07, "nose_width": 0.14, "nose_height": 0.14},
    **{"eye_size": 0.09, "mouth_width": 0.1, "lips": 0.2, "brows": 0.25},
}


# --- Who --------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Identity:
    """One person: proportions are factors around 1, colours are RGB 0..255, `seed` fixes the grain of skin and hair."""

    width: float = 1.0
    length: float = 1.0
    depth: float = 1.0
    jaw: float = 1.0
    nose_width: float = 1.0
    nose_height: float = 1.0
    eye_size: float = 1.0
    mouth_width: float = 1.0
    lips: float = 1.0
    brows: float = 1.0
    smile: float = 0.0
    skin: tuple[float, ...] = (222.0, 176.0, 148.0)
    hair: tuple[float, ...] = (62.0, 42.0, 30.0)
    iris: tuple[float, ...] = (70.0, 45.0, 28.0)
    shirt: tuple[float, ...] = (70.0, 90.0, 130.0)
    style: str = "short"
    hair_length: float = 12.0
    hairline: float = 0.0
    beard: float = 0.0
    glasses: bool = False
    seed: int = 0


def random_identity(rng: np.random.Generator) -> Identity:
    """A random person."""

    def tone(palette: np.ndarray, index: np.integer) -> tuple[float, ...]:
        return tuple(np.clip(palette[index] * rng.uniform(0.88, 1.1) + rng.normal(0, 4, 3), 5, 250).round(1).tolist())

    factors = {name: round(float(np.clip(rng.normal(1, sd), 1 - 2 * sd, 1 + 2 * sd)), 3) for name, sd in SPREAD.items()}
    style, complexion = HAIR_STYLES[rng.integers(len(HAIR_STYLES))], rng.integers(len(SKIN_TONES))
    return Identity(
        **factors,
        smile=round(float(rng.uniform(-0.3, 1)), 3),
        skin=tone(SKIN_TONES, complexion),
        hair=tone(HAIR_TONES, rng.integers(len(HAIR_TONES) if complexion < 3 else 3)),
        iris=tone(IRIS_TONES, rng.integers(len(IRIS_TONES) if complexion < 3 else 2)),
        shirt=tuple(rng.uniform(20, 235, 3).round(1).tolist()),
        style=style,
        hair_length=round(float(rng.uniform(8, 19)), 2),
        hairline=round(float(rng.uniform(-0.8, 0.8)), 3),
        beard=round(float(rng.uniform(0.3, 1)), 3) if style not in ("long", "bun") and rng.random() < 0.35 else 0.0,
        glasses=bool(rng.random() < 0.2),
        seed=int(rng.integers(2**31)),
    )


# --- The surfaces of a head -------------------------------------------------------------------------------------------
class Grid(NamedTuple):
    """A piece of surface: (rows, columns, 3) points, outward unit normals and RGB colours 0..255.

    `kept` (rows, columns) bool leaves points out; None keeps all.
    """

    points: np.ndarray
    normals: np.ndarray
    colours: np.ndarray
    kept: np.ndarray | None = None


class Surface(NamedTuple):
    """Points, outward unit normals and RGB colours, each (3, n) float32."""

    points: np.ndarray
    normals: np.ndarray
    colours: np.ndarray


def _blob(x: np.ndarray, y: np.ndarray | float, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    """A Gaussian bump of height 1 at (cx, cy)."""
    return np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)


def _soft(distance: np.ndarray, width: float) -> np.ndarray:
    """0 below, 1 above zero, with an edge of the given width."""
    return np.clip(distance / width + 0.5, 0, 1)


def _mix(colours: np.ndarray, target: np.ndarray | tuple[float, ...], weight: np.ndarray) -> None:
    """Blend (rows, columns, 3) colours towards a target by (rows, columns) weights, in place."""
    colours += (np.asarray(target, np.float32) - colours) * weight[..., None].astype(np.float32)


def _loft(identity: Identity, t: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Skull and jaw without features: t (rows) 0..1 from crown to chin, angle (columns) from the face → (r, c, 3)."""
    from scipy.interpolate import PchipInterpolator

    knots = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(SECTIONS[:, [0, 2]], axis=0).T) + 0.3)])
    y, width, front, back = PchipInterpolator(knots / knots[-1], SECTIONS)(t).T[..., None]
    width = width * (1 + (identity.jaw - 1) * _soft(y - 6, 8))
    sine, cosine = np.sin(angle), np.cos(angle)
    x = width * np.sign(sine) * np.abs(sine) ** 0.92
    z = (front + back) / 2 + (front - back) / 2 * np.sign(cosine) * np.abs(cosine) ** 0.92
    return np.stack([x, np.broadcast_to(y, x.shape), z], axis=-1).astype(np.float32)


def _relief(identity: Identity, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far the features stand out of the face (cm along z)."""
    side = np.abs(x)
    height = np.interp(y, (-1.2, 0.2, 2.5, 4.3, 4.9, 5.5), (0, 0.35, 1.4, 2.4, 2.1, 0)) * identity.nose_height
    half_width = np.interp(y, (-1, 1, 3, 4.6, 5.5), (0.75, 0.7, 0.95, 1.5, 1.5)) * identity.nose_width
    height, half_width = height.astype(np.float32), half_width.astype(np.float32)
    relief = height * np.exp(-((side / half_width) ** 2.4))
    relief += 0.5 * _blob(side, y, 1.35 * identity.nose_width, 4.6, 0.5, 0.55)  # wings of the nose
    relief += -0.8 * _blob(side, y, 3.1, 0.0, 1.7, 1.0) + 0.45 * _blob(side, y, 3.2, 0.05, 1.3, 0.8)  # sockets, eyes
    relief += 0.45 * _blob(side, y, 2.8, -1.9, 2.2, 0.8) + 0.5 * _blob(side, y, 4.6, 2.6, 1.5, 1.4)  # brows, cheeks
    relief += 0.6 * identity.lips * _blob(x, y, 0, 7.3, 2.4, 1.0) - 0.3 * _blob(x, y, 0, 7.25, 2.2, 0.2)
    return relief + 0.6 * _blob(x, y, 0, 10.4, 1.7, 1.1) - 0.4 * _blob(x, y, 0, 9.1, 1.8, 0.5)


def _grid_normals(points: np.ndarray) -> np.ndarray:
    """Outward unit normals of a (rows, columns, 3) grid: rows run down, columns from the nape round the face."""
    down, along = np.gradient(points, axis=0), np.gradient(points, axis=1)
    (ax, ay, az), (dx, dy, dz) = np.moveaxis(along, -1, 0), np.moveaxis(down, -1, 0)
    normals = np.stack([ay * dz - az * dy, az * dx - ax * dz, ax * dy - ay * dx], axis=-1)
    return normals / np.sqrt(np.einsum("...i,...i", normals, normals) + 1e-18)[..., None]


def _columns(count: int) -> np.ndarray:
    """Angles round the head, closer together on the face, where the detail is."""
    u = np.linspace(-np.pi, np.pi, count)
    return u - 0.45 * np.sin(u)


def _even_rows(identity: Identity, count: int) -> np.ndarray:
    """Values of t that cut the profile (with its nose) and the cheek into even steps."""
    t = np.linspace(0, 1, 1500)
    line = _loft(identity, t, np.radians([0.0, 8.0, 40.0]))
    line[:, :, 2] += _relief(identity, line[..., 0], line[..., 1])
    steps = np.linalg.norm(np.diff(line, axis=0), axis=-1).mean(axis=1) + 1e-4
    length = np.concatenate([[0], np.cumsum(steps)])
    return np.interp(np.linspace(0, length[-1], count), length, t)


def _paint_eyes(identity: Identity, colours: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """White, iris, pupil, lids and brows, on both sides."""
    side, hair = np.abs(x), np.array(identity.hair)
    u, v = (side - 3.2) / (1.5 * identity.eye_size), (y - 0.05) / (0.72 * identity.eye_size)
    _mix(colours, np.array(identity.skin) * 0.62, 0.55 * _blob(side, y, 3.2, -0.3, 1.7, 0.9))
    lid = 1 - u**2 - np.abs(v) - 0.15 * v
    _mix(colours, (40, 26, 22), _soft(lid + 0.32, 0.1) * (v < 0.15))
    eye = _soft(lid, 0.12)
    _mix(colours, (236, 232, 228), eye)
    radius = np.hypot(side - 3.2, y + 0.02) / identity.eye_size
    _mix(colours, identity.iris, eye * _soft(0.66 - radius, 0.1))
    _mix(colours, (12, 10, 10), eye * _soft(0.3 - radius, 0.08))
    _mix(colours, (255, 255, 255), eye * _soft(0.13 - np.hypot(x - 3.2 * np.sign(x) + 0.22, y + 0.25), 0.06))
    arch = y + 2.35 - 0.13 * (side - 3.2) ** 2
    brow = _soft(0.42 * identity.brows - np.abs(arch), 0.25) * _soft(side - 1.3, 0.5) * _soft(5.6 - side, 0.9)
    _mix(colours, hair * 0.6, 0.85 * brow)


def _paint_mouth(identity: Identity, colours: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Lips, the line (or the teeth) between them, nostrils."""
    skin, half = np.array(identity.skin), 2.55 * identity.mouth_width
    middle = 7.3 - 0.5 * identity.smile * (x / half) ** 2
    shape = np.clip(1 - (x / half) ** 2, 0, 1)
    lips = _soft(0.85 * identity.lips * shape - np.abs(y - middle - 0.05), 0.2) * (np.abs(x) < half)
    _mix(colours, skin * (0.86, 0.52, 0.52) + (22, 0, 4), 0.85 * lips)
    gap = 0.10 + 0.38 * max(0.0, identity.smile - 0.35) * shape
    _mix(colours, (52, 20, 20), _soft(gap + 0.08 - np.abs(y - middle), 0.12) * (np.abs(x) < half * 0.97))
    _mix(colours, (232, 226, 214), _soft(gap - 0.12 - np.abs(y - middle), 0.08) * (np.abs(x) < half * 0.8))
    nostril = _blob(np.abs(x), y, 0.72 * identity.nose_width, 5.25, 0.36, 0.22)
    _mix(colours, (45, 22, 18), np.clip(1.4 * nostril, 0, 1))


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: tuple[float, float]) -> np.ndarray:
    """Smooth noise of standard deviation 1 whose grains have the size sigma (rows, columns)."""
    coarse = [max(2, round(length / s) + 1) for length, s in zip(shape, sigma, strict=True)]
    noise = cv2.resize(rng.standard_normal(coarse, np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return noise / noise.std()


def _face_colours(
    identity: Identity, x: np.ndarray, y: np.ndarray, turned: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Colours of the face, (rows, columns, 3) float32: tone, blush, the shade of its hollows, eyes, mouth, beard."""
    side, skin = np.abs(x), np.array(identity.skin)
    colours = np.empty((*x.shape, 3), np.float32)
    colours[:] = identity.skin
    _mix(colours, skin * (1.0, 0.72, 0.7), 0.4 * _blob(side, y, 4.2, 3.6, 1.8, 1.6))
    hollows = 0.35 * _blob(side, y, 1.9, 4.6, 0.35, 0.9) + 0.6 * _blob(x, y, 0, 5.6, 1.5, 0.35)
    _mix(colours, skin * 0.55, hollows + 0.35 * _blob(x, y, 0, 8.9, 1.8, 0.4))
    if identity.beard:
        jaw = _soft(y - 6.0 + 2.4 * _soft(side - 3.2, 2), 1.0) * _soft(np.hypot(x / 3.0, (y - 7.3) / 0.95) - 1, 0.25)
        grain = identity.beard * (0.75 + 0.5 * rng.random(x.shape, np.float32)) * _soft(np.radians(84) - turned, 0.2)
        _mix(colours, np.array(identity.hair) * 0.9, np.clip(jaw * grain, 0, 0.95))
    _paint_eyes(identity, colours, x, y)
    _paint_mouth(identity, colours, x, y)
    return colours


def _skin(identity: Identity, rng: np.random.Generator, rows: int = 430, columns: int = 520) -> tuple[Grid, np.ndarray]:
    """The skin, and the 68 landmarks on it, (68, 3)."""
    t, angle = _even_rows(identity, rows), _columns(columns)
    points = _loft(identity, t, angle)
    colours = np.empty_like(points)
    colours[:] = identity.skin
    face = np.s_[np.searchsorted(points[:, 0, 1], -4.5) :, np.searchsorted(angle, -1.57) : np.searchsorted(angle, 1.57)]
    turned, (x, y, z) = np.abs(angle[face[1]]).astype(np.float32), np.moveaxis(points[face], -1, 0)
    colours[face] = _face_colours(identity, x, y, turned, rng)
    colours *= (1 - 0.35 * _soft(points[..., 1] - 11.3, 0.8) + 0.02 * _noise(rng, (rows, columns), (6, 6)))[..., None]
    if identity.style != "bald":  # so that nothing shines through where the hair is thin
        _mix(colours, np.array(identity.hair) * 0.6, _soft(_hairline(identity, angle) - points[..., 1] - 0.4, 0.4))
    landmarks = _landmarks(identity, x, y, angle[face[1]].astype(np.float32))
    z += _relief(identity, x, y) * np.clip(np.cos(turned) * 1.6, 0, 1)
    return Grid(points, _grid_normals(points), colours), points[face].reshape(-1, 3)[landmarks]


def _landmarks(identity: Identity, x: np.ndarray, y: np.ndarray, angle: np.ndarray) -> list[np.intp]:
    """Flat indices into the face's grid of the 68 landmarks: the jaw by angle and height, the rest by x and y."""
    face = FACE_POINTS.copy()
    face[14:19, 0] *= identity.nose_width
    face[31:, 0] *= identity.mouth_width
    steps = np.arange(-8, 9)
    jaw = zip(np.radians(11.2 * steps).tolist(), np.array(JAW_HEIGHTS)[8 - np.abs(steps)].tolist(), strict=True)
    nearest = [np.argmin(49 * (angle - turn) ** 2 + (y - height) ** 2) for turn, height in jaw]
    return nearest + [np.argmin((x - px) ** 2 + (y - py) ** 2) for px, py in face.tolist()]


def _hairline(identity: Identity, angle: np.ndarray) -> np.ndarray:
    """How low (y) the hair grows at each angle from the face."""
    forehead = _soft(np.radians(60) - np.abs(angle), 0.5)
    drop = {"fringe": 3.6, "full": 0.6}.get(identity.style, 0.0) + identity.hairline
    return (np.interp(np.degrees(np.abs(angle)), HAIRLINE_ANGLE, HAIRLINE) + drop * forehead).astype(np.float32)


def _ellipsoid(
    centre: tuple[float, ...], radii: tuple[float, ...], turn: float, rows: int, columns: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points and normals of an ellipsoid turned by `turn` radians about the vertical axis, and its unit ball."""
    theta, phi = np.linspace(1e-3, np.pi - 1e-3, rows)[:, None], np.linspace(-np.pi, np.pi, columns)
    ball = np.stack([np.sin(theta) * np.sin(phi), -np.cos(theta) + 0 * phi, np.sin(theta) * np.cos(phi)], axis=-1)
    spin = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    normals = ball / np.array(radii)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return (ball * radii) @ spin.T + np.array(centre), normals @ spin.T, ball


def _ear(identity: Identity, sign: int) -> Grid:
    """One ear: a flat ellipsoid whose back edge stands off, its hollow painted."""
    points, normals, ball = _ellipsoid((sign * 7.7, 1.4, -1.5), (0.6, 3.1, 1.8), -sign * 0.5, 90, 80)
    colours = np.empty(points.shape, np.float32)
    colours[:] = np.array(identity.skin) * (1.0, 0.9, 0.88)
    outward = sign * ball[..., 0] > 0
    rim = np.hypot(ball[..., 1] * 1.1, ball[..., 2])
    hollow = outward * (
        0.6 * _blob(ball[..., 2], ball[..., 1], 0.15, 0.05, 0.4, 0.45) + 0.3 * _blob(rim, 0, 0.7, 0, 0.1, 1)
    )
    _mix(colours, np.array(identity.skin) * 0.42, hollow)
    return Grid(points, normals, colours)


def _glasses() -> Iterator[Grid]:
    """Two rims, the bridge and the arms, as dark tubes."""
    turn, tube = np.linspace(-np.pi, np.pi, 420)[:, None], np.linspace(-np.pi, np.pi, 14)
    parts = []
    for cx in (-3.2, 3.2):
        x, y = cx + (2.35 + 0.14 * np.cos(tube)) * np.cos(turn), 0.35 + (1.9 + 0.14 * np.cos(tube)) * np.sin(turn)
        parts.append(np.stack([x, y, 9.9 - 0.06 * x**2 + 0.14 * np.sin(tube)], axis=-1))
    for start, end in (
        ((-0.9, 0, 10.1), (0.9, 0, 10.1)),
        *(((s * 5.5, -0.2, 8.2), (s * 7.8, 0, -0.5)) for s in (-1, 1)),
    ):
        line = np.array(start) + (np.array(end) - np.array(start)) * np.linspace(0, 1, 260)[:, None]
        across = 0.14 * np.stack([np.cos(tube) * (start[2] == end[2] or 1), np.sin(tube), 0 * tube], axis=-1)
        parts.append(line[:, None] + across)
    for points in parts:
        middle = points.mean(axis=1, keepdims=True)
        normals = (points - middle) / np.linalg.norm(points - middle, axis=-1, keepdims=True)
        yield Grid(points, normals, np.full(points.shape, 30.0))
