"""The hair of a synthetic head: a shell over the skull, and what hangs, stands or falls out of it, in centimetres."""

import numpy as np

from rafa.heads.shape import (
    LONG_STYLES,
    SECTIONS,
    Grid,
    Identity,
    blend,
    even_rows,
    grain,
    grid_normals,
    hairline_of,
    loft,
)

# How thick the hair lies on the skull, cm.
THICKNESS = {
    **{"shaved": 0.08, "short": 0.7, "full": 1.7, "fringe": 1.2, "swept": 1.3, "receding": 0.5, "curly": 2.2},
    **{"afro": 3.4, "bob": 1.3, "long": 1.2, "wavy": 1.5},
}
CLOSED = {"hood", "headscarf", "helmet"}  # headwear under which only the hair on the forehead is seen


def hair(identity: Identity, rng: np.random.Generator) -> list[Grid]:
    """All pieces of this person's hair; none of a bald head."""
    style, parts = identity.style, list[Grid]()
    if style == "bald" or identity.headwear == "headscarf":
        return []
    parts.append(_hair_cap(identity, rng))
    if style in LONG_STYLES and identity.headwear not in CLOSED:
        parts.extend(_hair_curtain(identity, rng))
        for sign in (-1, 1):
            parts.extend(_locks(identity, rng, 18, sign * 1.15, 0.22, identity.hair_length + 5, 0.3))
    if style != "shaved" and identity.loose:
        count, side = int(4 + 24 * identity.loose), np.sign(identity.parting) * rng.uniform(0, 0.9)
        parts.extend(_locks(identity, rng, count, side, 0.4, rng.uniform(3, 12), rng.uniform(0.06, 0.25)))
        if not identity.headwear:
            parts.append(_flyaway(parts[0], rng, int(60 + 340 * identity.loose)))
    return parts


def _strands(identity: Identity, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Hair colours: streaks that run down the columns of the grid."""
    streaks = 0.15 * grain(rng, shape, (70, 1.6)) + 0.12 * grain(rng, shape, (150, 10))
    light = 1 + np.clip(streaks, -0.45, 0.6)
    return (np.array(identity.hair, np.float32) * light[..., None]).astype(np.float32)


def _hair_cap(identity: Identity, rng: np.random.Generator) -> Grid:
    """The hair on the skull: a shell over the skin, cut off at the hairline."""
    style, angle, curls = identity.style, np.linspace(-np.pi, np.pi, 300), identity.style in ("afro", "curly")
    points = loft(identity, even_rows(identity, 224), angle)
    ragged = grain(rng, (2, 300), (2, 4))[0] * (0.3 if style == "fringe" else 0.12)
    depth = hairline_of(identity, angle) + ragged * (1 + 3 * identity.loose) - points[..., 1]
    lumps = grain(rng, depth.shape, (9, 9) if curls else (40, 26)) * (0.1 if curls else 0.05 + 0.12 * identity.loose)
    thick = min(THICKNESS[style], 0.5) if identity.headwear not in ("", "headband") else THICKNESS[style]
    thickness = thick * (0.3 + 0.7 * np.clip(depth / 3.5, 0, 1)) * (1 + lumps)
    across = points[..., 0] - 3.5 * identity.parting
    parted = (np.abs(identity.parting) > 0.15) * np.exp(-((across / 0.35) ** 2)) * (points[..., 2] > -5)
    points = points + grid_normals(points) * (thickness * (1 - 0.5 * parted))[..., None]
    colours = _strands(identity, depth.shape, rng) * (0.75 + 0.25 * np.clip(depth / 1.5, 0, 1))[..., None]
    if curls:
        colours *= (1 + 0.25 * np.clip(lumps * 6, -1.5, 1.5))[..., None]
    if style == "shaved":
        blend(colours, identity.skin, np.full(depth.shape, 0.45))
    blend(colours, np.array(identity.skin) * 0.7, 0.7 * parted)
    return Grid(points, grid_normals(points), colours, depth > 0.35 * np.abs(grain(rng, depth.shape, (14, 1.5))))


def _hair_curtain(identity: Identity, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """Long hair below the cap: a curtain open towards the face, seen from outside and from inside."""
    opening = np.radians(rng.uniform(62, 88))
    s, angle = np.linspace(0, 1, 231)[:, None], np.linspace(opening, 2 * np.pi - opening, 210)
    length = min(identity.hair_length, 10.0) if identity.style == "bob" else identity.hair_length
    y, wavy = -4.5 + (length + 4.5) * s, identity.style == "wavy"
    wave = 0.25 * np.sin(angle * 9 + identity.seed % 7 + 2.5 * s)
    if wavy:
        wave = wave + (0.1 + 0.5 * s) * np.sin(y * 1.3 + 3 * np.sin(angle * 4 + identity.seed % 7))
    strands = 0.12 * grain(rng, (231, 210), (90, 4))
    radius = 8.3 + (1.8 if wavy else 1.1) * np.sin(np.pi * np.clip(s * 0.8, 0, 1)) + wave + strands
    points = np.stack([radius * np.sin(angle), y + 0 * angle, -1.2 + (radius + 1.6) * np.cos(angle)], axis=-1)
    points = points.astype(np.float32)
    normals, colours = grid_normals(points), _strands(identity, points.shape[:2], rng)
    ends = (0.05 + 0.05 * identity.loose) * grain(rng, (2, 210), (2, 3))[0]
    kept = s < 0.92 + ends
    inside = Grid(points - normals * 0.5, -normals, colours * 0.45, kept)
    return Grid(points, normals, colours, kept), inside


def around_skull(y: np.ndarray, angle: np.ndarray, lift: np.ndarray) -> np.ndarray:
    """Points that stand off the skull, or off the column below it, by `lift` cm: three arrays → (..., 3)."""
    width, front, back = (np.interp(np.minimum(y, 5.0), SECTIONS[:, 0], SECTIONS[:, k]) for k in (1, 2, 3))
    x = (width + lift) * np.sin(angle)
    z = (front + back) / 2 + ((front - back) / 2 + lift) * np.cos(angle)
    return np.stack([x, y + 0 * x, z], axis=-1).astype(np.float32)


def _locks(
    identity: Identity, rng: np.random.Generator, count: int, middle: float, spread: float, length: float, width: float
) -> tuple[Grid, Grid]:
    """Locks that fall from the hairline round the angle `middle`, across the face or in front of the shoulders."""
    rows, across = max(30, int(length * 8)), np.linspace(-1, 1, 5)
    s, root = np.linspace(0, 1, rows)[:, None], np.clip(rng.normal(middle, spread, count), -1.6, 1.6)
    top = hairline_of(identity, root) - rng.uniform(0.5, 2.5, count)
    y = top + length * rng.uniform(0.5, 1.05, count) * s
    wave = rng.uniform(0, 0.08, count) * np.sin(s * rng.uniform(3, 14, count) + rng.uniform(0, 6, count)) * (s + 0.2)
    angle = root + rng.normal(0, 0.35, count) * s**1.5 + wave
    lift = 0.35 + THICKNESS[identity.style] * 0.5 + rng.uniform(0, 1.1, count) * np.sin(np.pi * s) ** 2
    taper = rng.uniform(0.5, 1.5, count) * width * (1 - s**3) / 9
    turned = (angle[..., None] + taper[..., None] * across).reshape(rows, -1)
    points = around_skull(np.repeat(y, 5, axis=1), turned, np.repeat(lift, 5, axis=1))
    round_off = np.tile(0.4 * across, count)
    out, along = np.sin(turned) + round_off * np.cos(turned), np.cos(turned) - round_off * np.sin(turned)
    normals = np.stack([out, 0 * out, along], axis=-1) / np.sqrt(1 + round_off**2)[:, None]
    colours = _strands(identity, points.shape[:2], rng)
    return Grid(points, normals, colours), Grid(points - 0.1 * normals, -normals, colours * 0.6)


def _flyaway(cap: Grid, rng: np.random.Generator, count: int) -> Grid:
    """Single hairs that leave the cap."""
    roots = rng.choice(np.flatnonzero(np.asarray(cap.kept)), count)
    start, normal, colour = (layer.reshape(-1, 3)[roots] for layer in cap[:3])
    s = np.linspace(0, 1, 40)[:, None, None]
    drift = rng.normal((0, 0.6, 0), 1, (count, 3))
    points = start + s * rng.uniform(0.2, 1.2, (count, 1)) * normal + s**1.5 * rng.uniform(0.3, 1.3, (count, 1)) * drift
    return Grid(points, np.broadcast_to(normal, points.shape), np.broadcast_to(colour * 0.9, points.shape))
