"""The shape and the colours of a synthetic head: who it is, and what surfaces it has.

A head is a set of surfaces (skin, hair, ears, glasses), sampled densely enough to be drawn as points. Lengths are in
centimetres. The origin lies between the ears; the axes are the image axes of `data_loaders` (x right, y down, z towards
the viewer) when the head looks into the camera.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from scipy.interpolate import PchipInterpolator, RBFInterpolator

SKIN_TONES = np.array([(238, 202, 182), (222, 176, 148), (190, 140, 105), (141, 94, 66), (104, 72, 56)], float)
HAIR_TONES = np.array([
    (30, 24, 22), (62, 42, 30), (158, 156, 152), (108, 72, 44), (198, 162, 104), (152, 78, 42),
    (222, 218, 210), (226, 200, 140), (84, 56, 40), (128, 36, 44), (70, 60, 130),
], float)  # fmt: skip
IRIS_TONES = np.array([(70, 45, 28), (95, 68, 36), (74, 100, 84), (84, 118, 150)], float)
BEARDS = ("stubble", "moustache", "goatee", "full")
HAIR_STYLES = ("bald", "shaved", "short", "full", "fringe", "swept", "receding", "curly", "afro")
LONG_STYLES = ("bob", "long", "wavy")
HEADWEAR = ("cap", "beanie", "hat", "hood", "headscarf", "helmet", "headband")
# Horizontal sections of the skull and jaw from crown to chin: height y, half width, z of front, back and widest place.
# fmt: off
SECTIONS = np.array([
    -11.6, 0, -1, -1, -1, -11.3, 2.9, 2.2, -4.6, -1.2, -10.2, 5, 5.4, -7.2, -1.2, -8, 6.6, 7.8, -9.1, -1.2,
    -5, 7.4, 8.9, -9.9, -1.2, -2, 7.7, 9.2, -10, -0.8, 0, 7.7, 8.8, -9.8, -0.95, 2.5, 7.6, 8.8, -9, -0.75,
    5, 7.2, 9, -7.4, -0.55, 7, 6.75, 9, -4.4, -0.05, 8.4, 6.15, 8.8, -2, 0.85, 9.7, 5.1, 8.7, 1, 2.9,
    10.5, 3.9, 8.6, 3.4, 5, 11.1, 2.6, 8.2, 4.8, 6.2, 11.6, 1.3, 7.5, 5.6, 6.6, 11.9, 0, 6.4, 6.4, 6.4,
]).reshape(-1, 5)
# How low the hair grows, by the angle from the face round to the nape (degrees): forehead, temple, sideburn, nape.
HAIRLINE_ANGLE = (0, 30, 50, 64, 80, 96, 110, 125, 180)
HAIRLINE = (-7.2, -7.0, -5.2, -2.0, 2.2, 0.6, 3.6, 6.4, 7.0)
# The landmarks on the left half of a face at rest, x, y, z: brow 17-21, nose 27-33, eye 36-41, mouth 48-51, 57-62 and
# 66; those on the right mirror them.  Means of `pt3d_68` of AFLW2000, that is of the face model behind its labels.
FACE_POINTS = np.array([
    -6.09, -1.55, 6.05, -5.23, -2.2, 7.32, -4.1, -2.41, 8.24, -3.02, -2.29, 8.75, -2.05, -2.02, 9,
    0, 0, 9.41, 0, 1.26, 10.37, 0, 2.53, 11.34, 0, 3.62, 11.6, -1.35, 4.56, 9.04,
    -0.78, 4.67, 9.62, 0, 4.8, 9.92, -4.7, 0.02, 6.79, -4, -0.48, 7.7, -3, -0.5, 7.69,
    -2.08, 0.06, 7.38, -2.93, 0.29, 7.68, -3.98, 0.34, 7.43, -2.75, 7.04, 8.11, -1.85, 6.62, 9.38,
    -0.65, 6.13, 9.95, 0, 6.25, 10.04, 0, 7.96, 9.75, -0.95, 7.89, 9.63, -1.82, 7.54, 9.21,
    -2.55, 7.02, 8.02, -0.84, 6.84, 9.49, 0, 6.82, 9.64, 0, 7.09, 9.64,
]).reshape(-1, 3)
# fmt: on
JAW_TURNS = (88, 88, 88, 88, 87, 86, 82, 62, 0)  # degrees round the section, and heights, of landmarks 0 to 8
JAW_HEIGHTS = (0.9, 3.0, 5.0, 6.65, 8.4, 9.75, 10.55, 11.2, 11.6)
# Places (distance from the middle, y) where the face is as the sections say.
RELIEF_ENDS = np.array([
    (0, -5), (3, -5), (6, -5), (7, -2), (7.4, 1), (7.2, 4), (6.5, 6.5), (5.8, 8.5), (4.6, 3.2), (4.2, 6), (3.2, 9.8),
    (0, 9), (0, 10.5), (0, 11.6), (1.5, 11), (1.9, 9), (3.4, 8.2), (2.6, 4.6), (6.2, 1), (4.9, 9.3),
], float)  # fmt: skip
# Standard deviations of the factors in which people differ.
SPREAD = {"width": 0.05, "length": 0.05, "depth": 0.05, "jaw": 0.08, "cheeks": 0.3, "nose_width": 0.14}
SPREAD |= {"nose_height": 0.14, "eye_size": 0.09, "mouth_width": 0.1, "lips": 0.2, "brows": 0.25}


# --- Who --------------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Identity:
    """One person: proportions are factors around 1, colours are RGB 0..255, `seed` fixes the grain of skin and hair."""

    width: float = 1.0
    length: float = 1.0
    depth: float = 1.0
    jaw: float = 1.0
    cheeks: float = 1.0
    nose_width: float = 1.0
    nose_height: float = 1.0
    eye_size: float = 1.0
    mouth_width: float = 1.0
    lips: float = 1.0
    brows: float = 1.0
    arch: float = 0.1  # of the brows, 1 / cm
    smile: float = 0.0  # below 0: the corners of the mouth hang
    opening: float = 0.0  # of the mouth, about cm
    teeth: float = 0.1  # how much of them an open mouth shows
    lids: float = 1.0  # 0: eyes closed
    raised: float = 0.0  # brows, cm
    gaze: tuple[float, ...] = (0.0, 0.0)  # of the irises in the face, x and y, cm
    age: float = 0.0  # 0..1: wrinkles
    freckles: float = 0.0
    blush: float = 0.3
    makeup: float = 0.0  # 0..1: how much lipstick covers
    lipstick: tuple[float, ...] = (170.0, 40.0, 60.0)
    skin: tuple[float, ...] = (222.0, 176.0, 148.0)
    hair: tuple[float, ...] = (62.0, 42.0, 30.0)
    iris: tuple[float, ...] = (70.0, 45.0, 28.0)
    shirt: tuple[float, ...] = (70.0, 90.0, 130.0)
    style: str = "short"
    hair_length: float = 12.0
    hairline: float = 0.0
    parting: float = 0.0
    loose: float = 0.0
    headwear: str = ""
    cloth: tuple[float, ...] = (60.0, 60.0, 70.0)
    beard: float = 0.0
    beard_kind: str = "full"
    glasses: bool = False
    rim: float = 0.14  # cm: radius of the frame
    frame: tuple[float, ...] = (30.0, 30.0, 30.0)
    dark_lenses: bool = False
    seed: int = 0


def random_identity(rng: np.random.Generator) -> Identity:
    """A random person."""

    def tone(colour: np.ndarray) -> tuple[float, ...]:
        return tuple(np.clip(colour * rng.uniform(0.88, 1.1) + rng.normal(0, 4, 3), 5, 250).round(1).tolist())

    def often(chance: float) -> bool:
        return bool(rng.random() < chance)

    def within(low: float, high: float) -> float:
        return round(float(rng.uniform(low, high)), 3)

    factors: dict[str, Any] = {
        name: round(float(np.clip(rng.normal(1, sd), 1 - 2 * sd, 1 + 2 * sd)), 3) for name, sd in SPREAD.items()
    }
    styles = HAIR_STYLES + LONG_STYLES
    style, complexion = styles[rng.integers(len(styles))], rng.uniform(0, len(SKIN_TONES) - 1)
    light = int(complexion)
    skin = SKIN_TONES[light] + (SKIN_TONES[light + 1] - SKIN_TONES[light]) * (complexion - light)
    bearded = style not in LONG_STYLES and often(0.4)
    return Identity(
        **factors,
        **_random_expression(rng),
        arch=within(0.02, 0.16),
        age=within(0.2, 1) if often(0.35) else 0.0,
        freckles=within(0.3, 1) if often(0.12) else 0.0,
        blush=within(0, 0.5),
        makeup=within(0.3, 1) if not bearded and often(0.25) else 0.0,
        lipstick=tuple(np.add((170, 40, 60), rng.uniform(-45, 45, 3)).round(1).tolist()),
        skin=tone(skin),
        hair=tone(HAIR_TONES[rng.integers(len(HAIR_TONES) if light < 2 else 3)]),
        iris=tone(IRIS_TONES[rng.integers(len(IRIS_TONES) if light < 2 else 2)]),
        shirt=tuple(rng.uniform(20, 235, 3).round(1).tolist()),
        style=style,
        hair_length=round(float(rng.uniform(8, 19)), 2),
        hairline=within(-0.8, 0.8) + (within(1, 4.5) if often(0.25) else 0.0),
        parting=within(-1, 1) if often(0.5) else 0.0,
        loose=within(0, 1) if often(0.6) else 0.0,
        headwear=HEADWEAR[rng.integers(len(HEADWEAR))] if often(0.25) else "",
        cloth=tuple(rng.uniform(10, 240, 3).round(1).tolist()),
        beard=within(0.3, 1) if bearded else 0.0,
        beard_kind=BEARDS[rng.integers(len(BEARDS))],
        glasses=often(0.2),
        rim=within(0.05, 0.2),
        frame=tuple(np.round(rng.uniform(10, 60) + often(0.3) * rng.uniform(-10, 150, 3), 1).clip(0).tolist()),
        dark_lenses=often(0.3),
        seed=int(rng.integers(2**31)),
    )


def _random_expression(rng: np.random.Generator) -> dict[str, Any]:
    """Mouth, lids, brows and gaze: half of the mouths are open, one pair of eyes in twelve is closed or nearly so."""
    wide = min(float(rng.exponential(1.2)), 3.5) if rng.random() < 0.5 else 0.0
    lids = rng.uniform(0, 0.35) if rng.random() < 0.08 else rng.normal(0.95, 0.13)
    return {
        "smile": round(float(rng.uniform(-0.4, 1)), 3),
        "opening": round(wide, 3),
        "teeth": round(float(rng.uniform(0, 0.14)), 3),
        "lids": round(float(np.clip(lids, 0, 1.25)), 3),
        "raised": round(float(rng.normal(0, 0.16)), 3),
        "gaze": tuple(np.clip(rng.normal(0, (0.22, 0.1)), (-0.55, -0.25), (0.55, 0.25)).round(3).tolist()),
    }


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


def bump(x: np.ndarray, y: np.ndarray | float, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    """A Gaussian bump of height 1 at (cx, cy)."""
    return np.exp(-(((x - cx) / sx) ** 2) - ((y - cy) / sy) ** 2)


def edge(distance: np.ndarray, width: float | np.ndarray) -> np.ndarray:
    """0 below, 1 above zero, with an edge of the given width."""
    return np.clip(distance / width + 0.5, 0, 1)


def blend(colours: np.ndarray, target: np.ndarray | tuple[float, ...], weight: np.ndarray) -> None:
    """Blend (rows, columns, 3) colours towards a target by (rows, columns) weights, in place."""
    colours += (np.asarray(target, np.float32) - colours) * weight[..., None].astype(np.float32)


def loft(identity: Identity, t: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Skull and jaw without features: t (rows) 0..1 from crown to chin, angle (columns) from the face → (r, c, 3)."""
    knots = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(SECTIONS[:, [0, 2]], axis=0).T) + 0.3)])
    y, width, front, back, middle = PchipInterpolator(knots / knots[-1], SECTIONS)(t).T[..., None]
    width = width * (1 + (identity.jaw - 1) * edge(y - 6, 8))
    sine, cosine = np.sin(angle), np.cos(angle)
    x = width * np.sign(sine) * np.abs(sine) ** 0.92
    z = middle + np.where(cosine > 0, front - middle, back - middle) * np.abs(cosine) ** 0.92
    return np.stack([x, np.broadcast_to(y, x.shape), z], axis=-1).astype(np.float32)


@functools.cache
def _relief_tables() -> tuple[np.ndarray, np.ndarray]:
    """How far nose and other features of the mean face stand out (cm along z), over distance from the middle and y."""
    side, y = np.meshgrid(np.arange(0, 9, 0.1), np.arange(-6, 13, 0.1))
    line = (-2.4, -1, 0, 1.26, 2.53, 3.4, 4.0, 4.5, 4.9, 5.5), (0, 0.25, 0.7, 1.6, 2.55, 2.95, 2.75, 1.9, 0.85, 0)
    height = PchipInterpolator(*line, extrapolate=False)(y)
    half_width = np.interp(y, (-1, 0, 1.3, 2.5, 3.6, 4.5, 5.3), (0.8, 0.75, 0.85, 1.0, 1.3, 1.45, 1.3))
    nose = np.nan_to_num(height) * np.exp(-((side / half_width) ** 2.4)) + 0.5 * bump(side, y, 1.3, 4.2, 0.5, 0.55)
    face = 0.9 * bump(side, y, 0, 7.0, 2.3, 1.3) - 0.1 * bump(side, y, 0, 6.95, 2.2, 0.12)  # lips
    face += 0.5 * bump(side, y, 0, 10.4, 1.7, 1.0) - 0.45 * bump(side, y, 0, 8.9, 1.8, 0.55)  # chin
    face += 0.4 * bump(side, y, 4.6, 3.0, 1.6, 1.6) + 0.3 * bump(side, y, 3.4, 0.05, 0.9, 0.45)  # cheeks, eyeballs
    face -= 0.25 * bump(side, y, 0, 5.6, 0.35, 0.5)  # the groove below the nose
    face += _missing_relief(side, y, nose + face)
    fine = (side.shape[1] * 5, side.shape[0] * 5)
    tables = [cv2.resize(x.round(4).astype(np.float32), fine, interpolation=cv2.INTER_CUBIC) for x in (nose, face)]
    return tables[0], tables[1]


def _missing_relief(side: np.ndarray, y: np.ndarray, relief: np.ndarray) -> np.ndarray:
    """What the relief of the mean face lacks for its landmarks, spread out smoothly; none at `RELIEF_ENDS`."""
    points = FACE_POINTS * (-1, 1, 1)
    rows = loft(Identity(), np.linspace(0, 1, 2000), np.radians(np.linspace(0, 90, 200))).astype(float)
    rows = rows[np.searchsorted(rows[:, 0, 1], points[:, 1])]
    ground = [np.interp(x, row[:, 0], row[:, 2]) for x, row in zip(points[:, 0], rows, strict=True)]
    cells = np.round((points[:, :2] - (0, -6)) / 0.1).astype(int)
    missing = points[:, 2] - ground - relief[cells[:, 1], cells[:, 0]]
    places = np.concatenate([points[:, :2], RELIEF_ENDS])
    places, missing = np.concatenate([places, places * (-1, 1)]), np.tile(np.append(missing, 0 * RELIEF_ENDS[:, 0]), 2)
    places, first = np.unique(places, axis=0, return_index=True)
    spread = RBFInterpolator(places, missing[first], smoothing=0.02)
    return spread(np.stack([side.ravel(), y.ravel()], axis=1)).reshape(side.shape) * edge(y + 3.2, 2.2)


def relief_of(identity: Identity, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far the features stand out of the face (cm along z)."""
    side, row = np.abs(x) * 50 + 2, (y + 6) * 50 + 2  # pixels of the tables, whose corner's centre is at 2, 2
    nose, face = _relief_tables()
    relief = cv2.remap(nose, side / np.float32(identity.nose_width), row, cv2.INTER_LINEAR) * identity.nose_height
    relief += cv2.remap(face, side, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    relief += 0.5 * (identity.lips - 1) * bump(x, y, 0, 7.0, 2.4, 0.9)
    return relief + 1.2 * (identity.cheeks - 1) * bump(np.abs(x), y, 4.6, 5.0, 1.9, 2.6)


def grid_normals(points: np.ndarray) -> np.ndarray:
    """Outward unit normals of a (rows, columns, 3) grid: rows run down, columns from the nape round the face."""
    down, along = np.empty_like(points), np.empty_like(points)  # differences; their lengths do not matter
    down[1:-1], down[0], down[-1] = points[2:] - points[:-2], points[1] - points[0], points[-1] - points[-2]
    along[:, 1:-1] = points[:, 2:] - points[:, :-2]
    along[:, 0], along[:, -1] = points[:, 1] - points[:, 0], points[:, -1] - points[:, -2]
    (ax, ay, az), (dx, dy, dz) = np.moveaxis(along, -1, 0), np.moveaxis(down, -1, 0)
    normals = np.stack([ay * dz - az * dy, az * dx - ax * dz, ax * dy - ay * dx], axis=-1)
    return normals / np.sqrt(np.einsum("...i,...i", normals, normals) + 1e-18)[..., None]


def column_angles(count: int) -> np.ndarray:
    """Angles round the head, closer together on the face, where the detail is."""
    u = np.linspace(-np.pi, np.pi, count)
    return u - 0.45 * np.sin(u)


def even_rows(identity: Identity, count: int) -> np.ndarray:
    """Values of t that cut the profile (with its nose) and the cheek into even steps."""
    t = np.linspace(0, 1, 1500)
    line = loft(identity, t, np.radians([0.0, 8.0, 40.0]))
    line[:, :, 2] += relief_of(identity, line[..., 0].copy(), line[..., 1].copy())
    line[..., 1] += 0.9 * identity.opening * edge(line[..., 1] - 6.95, np.array([0.24, 0.24, 1.2]))  # open mouth
    steps = np.linalg.norm(np.diff(line, axis=0), axis=-1).mean(axis=1) + 1e-4
    length = np.concatenate([[0], np.cumsum(steps)])
    return np.interp(np.linspace(0, length[-1], count), length, t)


def grain(rng: np.random.Generator, shape: tuple[int, ...], sigma: tuple[float, float]) -> np.ndarray:
    """Smooth noise of standard deviation 1 whose grains have the size sigma (rows, columns)."""
    coarse = [max(2, round(length / s) + 1) for length, s in zip(shape, sigma, strict=True)]
    noise = cv2.resize(rng.standard_normal(coarse, np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return noise / noise.std()


def hairline_of(identity: Identity, angle: np.ndarray) -> np.ndarray:
    """How low (y) the hair grows at each angle from the face."""
    forehead = edge(np.radians(60) - np.abs(angle), 0.5)
    drop = {"fringe": 3.6, "full": 0.6, "swept": 0.8, "receding": -2.8}.get(identity.style, 0.0) + identity.hairline
    if identity.style in ("shaved", "receding"):
        drop = min(drop, 0.5)
    fall = forehead * (drop + 2.0 * identity.parting * np.sin(angle))
    return (np.interp(np.degrees(np.abs(angle)), HAIRLINE_ANGLE, HAIRLINE) + fall).astype(np.float32)


def ear_of(identity: Identity, sign: int) -> Grid:
    """One ear: a flat ellipsoid whose back edge stands off, its hollow painted."""
    theta, phi = np.linspace(1e-3, np.pi - 1e-3, 90)[:, None], np.linspace(-np.pi, np.pi, 80)
    ball = np.stack([np.sin(theta) * np.sin(phi), -np.cos(theta) + 0 * phi, np.sin(theta) * np.cos(phi)], axis=-1)
    radii, turn = (0.6, 3.1, 1.8), -sign * 0.5  # about the vertical axis
    spin = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    normals = ball / radii
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    colours = np.full(ball.shape, np.array(identity.skin) * (1.0, 0.9, 0.88), np.float32)
    outward = sign * ball[..., 0] > 0
    rim = np.hypot(ball[..., 1] * 1.1, ball[..., 2])
    hollow = 0.6 * bump(ball[..., 2], ball[..., 1], 0.15, 0.05, 0.4, 0.45) + 0.3 * bump(rim, 0, 0.7, 0, 0.1, 1)
    blend(colours, np.array(identity.skin) * 0.42, outward * hollow)
    return Grid((ball * radii) @ spin.T + (sign * 7.7, 2.2, -2.5), normals @ spin.T, colours)


def glasses_of(identity: Identity) -> Iterator[Grid]:
    """Two rims, the bridge and the arms, as tubes; dark lenses, or the light that clear ones throw back."""
    turn, tube, r = np.linspace(-np.pi, np.pi, 420)[:, None], np.linspace(-np.pi, np.pi, 14), identity.rim
    parts = []
    for cx in (-3.3, 3.3):
        x, y = cx + (2.3 + r * np.cos(tube)) * np.cos(turn), 0.35 + (1.85 + r * np.cos(tube)) * np.sin(turn)
        parts.append(np.stack([x, y, 9.9 - 0.06 * x**2 + r * np.sin(tube)], axis=-1))
        if identity.dark_lenses or identity.seed % 2:
            yield _lens(identity, cx)
    arms = (((s * 5.5, -0.2, 8.2), (s * 8.0, 0, -0.5)) for s in (-1, 1))
    for start, end in (((-1.0, 0, 10.1), (1.0, 0, 10.1)), *arms):
        line = np.array(start) + (np.array(end) - np.array(start)) * np.linspace(0, 1, 260)[:, None]
        across = r * np.stack([np.cos(tube), np.sin(tube), 0 * tube], axis=-1)
        parts.append(line[:, None] + across)
    for points in parts:
        middle = points.mean(axis=1, keepdims=True)
        normals = (points - middle) / np.linalg.norm(points - middle, axis=-1, keepdims=True)
        yield Grid(points, normals, np.tile(identity.frame, (*points.shape[:2], 1)))


def _lens(identity: Identity, cx: float) -> Grid:
    """A dark lens whose upper part mirrors the sky, or only the streak of light on a clear one."""
    u, v = np.meshgrid(np.linspace(-1, 1, 110), np.linspace(-1, 1, 90))
    x = cx + 2.3 * u
    points = np.stack([x, 0.35 + 1.85 * v, 9.9 - 0.06 * x**2], axis=-1)
    normals = np.stack([0.12 * x, 0 * x, np.ones_like(x)], axis=-1)
    streak, inside = np.abs(u + 0.8 * v + 0.3) < 0.12, u**2 + v**2 < 1
    colours = np.array((26, 26, 30)) + (110 * edge(-0.1 - v, 1.6) * edge(0.6 - np.abs(u + 0.4 * v), 0.5))[..., None]
    if not identity.dark_lenses:
        colours = np.full(points.shape, 235.0)
    kept = inside if identity.dark_lenses else inside & streak & (v < 0.4)
    return Grid(points, normals / np.linalg.norm(normals, axis=-1, keepdims=True), colours, kept)
