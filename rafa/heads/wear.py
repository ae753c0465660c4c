"""What people wear on a synthetic head and what turns with it: hats, hoods and scarves, in centimetres."""

import numpy as np

from rafa.heads.hair import THICKNESS, around_skull
from rafa.heads.shape import Grid, Identity, even_rows, grain, grid_normals, loft


def headwear(identity: Identity, rng: np.random.Generator) -> list[Grid]:
    """The pieces of what this person wears on the head; none of a bare head."""
    kind = identity.headwear
    if not kind:
        return []
    around, backwards = np.linspace(-np.pi, np.pi, 400), kind == "cap" and rng.random() < 0.25
    skull = loft(identity, even_rows(identity, 300), around)
    low = rng.uniform(-0.8, 0.8)
    kept, lift = _extent(identity, rng, skull[..., 1], around, -1 if backwards else 1, low)
    out = skull + np.array((0, 1, 0.5))  # from the middle of the head
    lift *= 1 + 0.05 * grain(rng, lift.shape, (30, 30))
    shell = skull + out * (lift / np.linalg.norm(out, axis=-1))[..., None]
    colours = _cloth(identity, rng, lift.shape)
    if kind == "beanie":
        colours *= (1 + 0.12 * np.sin(around * 75))[:, None]
    parts = [Grid(shell, grid_normals(shell), colours, kept)]
    if kind in ("cap", "hat"):
        parts.extend(_brim(identity, rng, low, backwards))
    if kind in ("hood", "headscarf"):
        parts.extend(_drape(identity, rng, np.radians(60 if kind == "hood" else 0)))
    return parts


def _extent(
    identity: Identity, rng: np.random.Generator, y: np.ndarray, around: np.ndarray, ahead: int, low: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where a shell over the skull is kept, and how far it stands off, (rows, columns) each."""
    kind, front = identity.headwear, np.cos(around)
    lift = np.full(y.shape, {"hood": 2.2, "headscarf": 1.3, "helmet": 2.3}.get(kind, 1.15))
    if kind in ("hood", "headscarf"):  # round an oval that leaves the face free
        angle, height = (np.radians(rng.uniform(58, 80)), 9.5) if kind == "hood" else (np.radians(64), 8.3)
        return (around / angle) ** 2 + ((y - 2) / (height + low)) ** 2 > 1, lift
    if kind == "helmet":
        return y < np.interp(np.abs(around), np.radians([0, 55, 75, 180]), (-5.8, -5, 2.5, 3.5)) + low, lift
    if kind == "headband":
        middle = -5.6 + low + 1.5 * (1 - front)
        return np.abs(y - middle) < rng.uniform(0.5, 1.6), lift - 0.9 + THICKNESS.get(identity.style, 0)
    line = {"beanie": -4.3 - 1.6 * front, "cap": -4.4 - 1.0 * ahead * front, "hat": -4.8 - 0.4 * front}[kind] + low
    if kind == "beanie":
        lift += 0.4 * (y > line - 2.6)
    if kind != "cap":
        lift += np.clip(-8 - y, 0, 3) * rng.uniform(0, 0.7)
    return y < line, lift


def _cloth(identity: Identity, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Colours of cloth with folds, sometimes with a second colour in stripes or spots."""
    colours = np.full((*shape, 3), identity.cloth, np.float32)
    kind = rng.random()
    if kind < 0.35:
        spots = grain(rng, shape, (8, 8)) > 0.6
        stripes = np.arange(shape[0])[:, None] % 40 < rng.integers(5, 30)
        colours[np.broadcast_to(stripes, shape) if kind < 0.2 else spots] = rng.uniform(10, 245, 3)
    return colours * (1 + 0.08 * grain(rng, shape, (12, 40)) + 0.05 * grain(rng, shape, (2, 2)))[..., None]


def _brim(identity: Identity, rng: np.random.Generator, low: float, backwards: bool) -> tuple[Grid, Grid]:
    """A brim seen from above and from below: of a cap in front or behind, of a hat all round."""
    whole = identity.headwear == "hat"
    half, width = (np.pi, rng.uniform(3, 9)) if whole else (np.radians(68), rng.uniform(5, 7.5))
    r, angle = np.linspace(0, width, int(width * 10))[:, None], np.linspace(-half, half, 620 if whole else 240)
    base = around_skull(np.full(angle.shape, -5.2 + low), angle, np.full(angle.shape, 0.7))
    reach = r * (1 if whole else np.clip(1.05 - (angle / half) ** 2, 0, 1))
    out = np.stack([np.sin(angle), 0 * angle, np.cos(angle)], axis=-1) if whole else np.array((0.0, 0, 1))
    points = base + reach[..., None] * out
    bend = rng.uniform(-0.25, 0.25) if whole else rng.uniform(0, 0.3)
    curl = rng.uniform(-0.5, 0.1) if whole else 0.0
    points[..., 1] += bend * reach + curl * reach * np.sin(angle) ** 2
    if not whole:
        points[..., 1] += 0.02 * points[..., 0] ** 2
    if backwards:
        points = points * (-1, 1, -1)
    normals = grid_normals(points)
    normals = normals * -np.sign(normals[..., 1:2] + 1e-9)  # upwards
    colours = _cloth(identity, rng, points.shape[:2])
    return Grid(points, normals, colours), Grid(points + np.array((0, 0.2, 0)), -normals, colours * 0.6)


def _drape(identity: Identity, rng: np.random.Generator, opening: float) -> tuple[Grid, Grid]:
    """Cloth round the neck, open in front by an angle, seen from outside and from inside."""
    s, angle = np.linspace(0, 1, 160)[:, None], np.linspace(opening, 2 * np.pi - opening, 520)
    folds = 0.35 * grain(rng, (160, 520), (60, 14))
    points = around_skull(9.5 + 7.5 * s + 0 * angle, angle, 0.9 + 2.5 * s**2 + folds * s)
    points[..., 2] -= 1.0 * (1 - s) * (np.cos(angle) > 0) * np.cos(angle)
    normals, colours = grid_normals(points), _cloth(identity, rng, (160, 520))
    return Grid(points, normals, colours), Grid(points - 0.3 * normals, -normals, colours * 0.5)
