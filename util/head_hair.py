"""The hair of a synthetic head: a shell over the skull, curtains beside the face, a bun. Lengths as in `head_shape`."""

import numpy as np

from util.head_shape import Grid, Identity, _ellipsoid, _even_rows, _grid_normals, _hairline, _loft, _noise


def hair(identity: Identity, rng: np.random.Generator) -> list[Grid]:
    """All pieces of this person's hair; none of a bald head."""
    parts: list[Grid] = []
    if identity.style != "bald":
        parts.append(_hair_cap(identity, rng))
    if identity.style == "long":
        parts.extend(_hair_curtain(identity, rng))
    if identity.style == "bun":
        points, normals, _ = _ellipsoid((0, -6.5, -11.0), (3.0, 2.8, 2.8), 0.0, 90, 130)
        parts.append(Grid(points, normals, _strands(identity, points.shape[:2], rng)))
    return parts


def _strands(identity: Identity, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Hair colours: streaks that run down the columns of the grid."""
    streaks = 0.15 * _noise(rng, shape, (70, 1.6)) + 0.12 * _noise(rng, shape, (150, 10))
    light = 1 + np.clip(streaks, -0.45, 0.6)
    return (np.array(identity.hair, np.float32) * light[..., None]).astype(np.float32)


def _hair_cap(identity: Identity, rng: np.random.Generator, rows: int = 320, columns: int = 430) -> Grid:
    """The hair on the skull: a shell over the skin, cut off at the hairline."""
    style, angle = identity.style, np.linspace(-np.pi, np.pi, columns)
    points = _loft(identity, _even_rows(identity, rows), angle)
    ragged = _noise(rng, (2, columns), (2, 4))[0]
    depth = _hairline(identity, angle) + ragged * (0.3 if style == "fringe" else 0.12) - points[..., 1]
    thick = {"short": 0.7, "full": 1.7, "fringe": 1.2, "long": 1.2, "bun": 0.6, "afro": 3.4}[style]
    lumps = _noise(rng, depth.shape, (18, 14) if style == "afro" else (40, 26))
    thickness = thick * (0.3 + 0.7 * np.clip(depth / 3.5, 0, 1)) * (1 + 0.05 * lumps)
    points = points + _grid_normals(points) * thickness[..., None]
    colours = _strands(identity, depth.shape, rng) * (0.75 + 0.25 * np.clip(depth / 1.5, 0, 1))[..., None]
    return Grid(points, _grid_normals(points), colours, depth > 0)


def _hair_curtain(
    identity: Identity, rng: np.random.Generator, rows: int = 330, columns: int = 300
) -> tuple[Grid, Grid]:
    """Long hair below the cap: a curtain open towards the face, seen from outside and from inside."""
    s, angle = np.linspace(0, 1, rows)[:, None], np.linspace(np.radians(74), np.radians(286), columns)
    y = -4.5 + (identity.hair_length + 4.5) * s
    wave = 0.25 * np.sin(angle * 9 + identity.seed % 7 + 2.5 * s)
    radius = 8.3 + 1.1 * np.sin(np.pi * np.clip(s * 0.8, 0, 1)) + wave
    points = np.stack([radius * np.sin(angle), y + 0 * angle, -1.2 + (radius + 1.6) * np.cos(angle)], axis=-1)
    normals, colours = _grid_normals(points), _strands(identity, points.shape[:2], rng)
    ends = 0.06 * _noise(rng, (2, columns), (2, 8))[0]
    kept = (s < 0.94 + ends) & np.ones(columns, bool)
    inside = Grid(points - normals * 0.5, -normals, colours * 0.45, kept)
    return Grid(points, normals, colours, kept), inside
