"""The whole synthetic head: the surfaces that turn with it, in one list of points, and the neck below it."""

import functools

import numpy as np

from rafa.heads.face import skin
from rafa.heads.hair import hair
from rafa.heads.shape import Grid, Identity, Surface, column_angles, ear_of, edge, glasses_of, grid_normals, hairline_of
from rafa.heads.wear import headwear

# What lies further forward lies higher, by this share.  Without it networks answer frontal faces in photographs as if
# they looked up by 4 to 5 degrees more than the labels of Pointing'04, 300W-LP and AFLW2000 say, but profiles not:
# doc/log.md.
LIFT = 0.08


@functools.lru_cache(maxsize=2)
def head_surface(identity: Identity) -> tuple[Surface, np.ndarray]:
    """Everything that turns with the head, and its 68 landmarks, (3, 68)."""
    rng = np.random.default_rng(identity.seed)
    face, landmarks = skin(identity, rng)
    if identity.style != "bald" and identity.headwear != "headscarf":  # what lies deep under hair is never seen
        hairline = hairline_of(identity, column_angles(face.points.shape[1]))
        face = face._replace(kept=face.points[..., 1] > hairline - 2.5)
    parts = [face, ear_of(identity, -1), ear_of(identity, 1)]
    parts.extend(hair(identity, rng))
    parts.extend(headwear(identity, rng))
    if identity.glasses:
        parts.extend(glasses_of(identity))
    stretch = np.array([[identity.width], [identity.length], [identity.depth]], np.float32)

    def lifted(points: np.ndarray) -> np.ndarray:
        x, y, z = points * stretch
        return np.stack([x, y - LIFT * z, z])

    points, normals, colours = _flat(parts)
    normals[2] += LIFT * normals[1]
    normals /= np.linalg.norm(normals, axis=0) + 1e-9
    return Surface(lifted(points), normals, colours), lifted(landmarks.T)


def _flat(parts: list[Grid]) -> Surface:
    """The kept points of all parts, one after the other."""
    layers: list[list[np.ndarray]] = [[], [], []]
    for part in parts:
        for layer, grid in zip(layers, part[:3], strict=True):
            rows = grid.reshape(-1, 3) if part.kept is None else grid[part.kept]
            layer.append(rows.astype(np.float32).T)
    return Surface(*(np.concatenate(layer, axis=1) for layer in layers))


def neck_surface(identity: Identity, relative: np.ndarray) -> Surface:
    """The neck in the head's frame: a tube from the skull to the collar, which turns by `relative` against the head."""
    s, angle = np.linspace(0, 1, 80)[:, None], np.linspace(-np.pi, np.pi, 260)
    around = np.stack([np.sin(angle), 0 * angle, np.cos(angle)], axis=-1)
    upper = around * (5.2 * identity.width) + (0, 5.0, -2.6)
    lower = (around * (6.3, 1, 5.8) + (0, 15.8, -4.0)) @ relative.T
    points = upper + (lower - upper) * s[..., None]
    points -= around * (0.5 * np.sin(np.pi * s))[..., None]
    colours = np.array(identity.skin) * (0.55 + 0.4 * edge(s - 0.55, 0.7))[..., None] * np.ones((1, 260, 1))
    return _flat([Grid(points, grid_normals(points), colours)])
