"""The skin of a synthetic head: colours of the face, expression and landmarks.  Lengths as in `rafa.heads.shape`.

A face is shaped and painted at rest, then its points are moved by the expression: jaw, corners of the mouth, brows.
"""

import numpy as np

from rafa.heads.shape import (
    FACE_POINTS,
    JAW_HEIGHTS,
    JAW_TURNS,
    Grid,
    Identity,
    blend,
    bump,
    column_angles,
    edge,
    even_rows,
    grain,
    grid_normals,
    hairline_of,
    loft,
    relief_of,
)

SEAM = 6.95  # y of the line where the lips meet
EYE = (3.38, 0.04)  # distance from the middle, y


def skin(identity: Identity, rng: np.random.Generator) -> tuple[Grid, np.ndarray]:
    """The skin, and the 68 landmarks on it, (68, 3)."""
    angle = column_angles(364)
    points = loft(identity, even_rows(identity, 300), angle)
    colours = np.full(points.shape, identity.skin, np.float32)
    face = np.s_[np.searchsorted(points[:, 0, 1], -4.5) :, np.searchsorted(angle, -1.57) : np.searchsorted(angle, 1.57)]
    turned = np.abs(angle[face[1]]).astype(np.float32)
    x, y, z = (np.ascontiguousarray(points[face][..., axis]) for axis in range(3))
    colours[face] = _face_colours(identity, x, y, turned, rng)
    colours *= (1 - 0.35 * edge(points[..., 1] - 11.3, 0.8) + 0.02 * grain(rng, points.shape[:2], (6, 6)))[..., None]
    if identity.style != "bald":  # so that nothing shines through where the hair is thin
        blend(colours, np.array(identity.hair) * 0.6, edge(hairline_of(identity, angle) - points[..., 1] - 0.4, 0.4))
    landmarks = _landmarks(identity, x, y, angle[face[1]].astype(np.float32))
    points[face][..., 2] = z + relief_of(identity, x, y) * np.clip(np.cos(turned) * 1.6, 0, 1)
    _express(identity, points)
    return Grid(points, grid_normals(points), colours), points[face].reshape(-1, 3)[landmarks]


def _lid_heights(identity: Identity) -> tuple[float, float]:
    """How far the middle of the upper and of the lower lid lie from the line between the corners of the eye (cm)."""
    return 0.65 * identity.eye_size * identity.lids, 0.4 * identity.eye_size * (0.3 + 0.7 * identity.lids)


def _landmarks(identity: Identity, x: np.ndarray, y: np.ndarray, angle: np.ndarray) -> list[np.intp]:
    """Flat indices into the face's grid of the 68 landmarks: the jaw by angle and height, the rest by x and y."""
    half = FACE_POINTS[:, :2].copy()
    half[9:12, 0] *= identity.nose_width
    half[18:, 0] *= identity.mouth_width
    upper, lower = _lid_heights(identity)
    half[[13, 14], 1], half[[16, 17], 1] = EYE[1] - 0.8 * upper, EYE[1] + 0.8 * lower
    half[12:18, 0] = EYE[0] * -1 + (half[12:18, 0] + EYE[0]) * identity.eye_size
    left, right = half, half * (-1, 1)
    places = [*left[:5], *right[4::-1], *left[5:12], *right[[10, 9]], *left[12:18], *right[[15, 14, 13, 12, 17, 16]]]
    places += [*left[18:22], *right[[20, 19, 18, 24, 23]], *left[22:25]]
    places += [*left[25:28], *right[[26, 25]], right[26] + (0, 0.21), left[28], left[26] + (0, 0.21)]
    turns = np.radians([*(-np.array(JAW_TURNS)), *JAW_TURNS[-2::-1]])
    jaw = zip(turns.tolist(), (*JAW_HEIGHTS, *JAW_HEIGHTS[-2::-1]), strict=True)
    nearest = [np.argmin(49 * (angle - turn) ** 2 + (y - height) ** 2) for turn, height in jaw]
    return nearest + [np.argmin((x - px) ** 2 + (y - py) ** 2) for px, py in np.array(places).tolist()]


# --- Expression -------------------------------------------------------------------------------------------------------
def _express(identity: Identity, points: np.ndarray) -> None:
    """Move the points at rest, in place: the jaw turns about the ears, corners of the mouth rise, brows rise."""
    height = points[:, 0, 1].copy()
    low = np.s_[np.searchsorted(height, 2.5) :]
    (x, y, z), dropped = np.moveaxis(points[low].copy(), -1, 0), identity.opening / 10
    side, half = np.abs(x), 2.6 * identity.mouth_width
    if dropped > 0:
        width = 0.24 + 2.5 * np.clip(side / half - 0.6, 0, 1.6) ** 2
        below, forward = edge(y - SEAM, width), np.clip(z + 1, 0, None)
        within = np.clip(1 - (side / half) ** 2, 0, 1) * np.clip(1 - np.abs(y - SEAM) / 0.13, 0, 1)
        points[low][..., 1] += dropped * below * forward
        points[low][..., 2] -= (
            dropped * below * np.clip(y - 1, 0, None) * np.clip(forward / 6, 0, 1) + 8 * dropped * within
        )
    if identity.smile:
        corner = identity.smile * bump(side, y, half, SEAM, 1.5, 1.3)
        points[low] += np.stack([0.4 * np.sign(x) * corner, -0.45 * corner, -0.3 * corner], axis=-1)
        points[low][..., 2] += 0.25 * max(identity.smile, 0) * bump(side, y, 3.9, 3.8, 1.3, 1.1)
    rise = identity.raised * np.exp(-(((height + 2.2) / 1.3) ** 2)) * (height < 2)
    points[..., 1] -= (rise[:, None] * np.clip(points[..., 2] / 4, 0, 1)).astype(np.float32)


# --- Colours ----------------------------------------------------------------------------------------------------------
def _paint_eyes(identity: Identity, colours: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """White, iris, pupil, lids and brows, on both sides."""
    side, hair = np.abs(x), np.array(identity.hair)
    dark_skin = np.array(identity.skin) * 0.62
    u, (upper, lower) = (side - EYE[0]) / (1.33 * identity.eye_size), _lid_heights(identity)
    bow, v = np.clip(1 - u**2, 0, None), y - EYE[1]
    socket = 0.22 * bump(side, y, EYE[0] - 0.3, -0.45, 1.7, 0.75) + 0.25 * bump(side, v, 3.2, 0.9, 1.2, 0.35)
    blend(colours, dark_skin, socket)
    inside = np.minimum(v + upper * bow, lower * bow - v)
    crease = v + (0.3 + 0.55 * identity.eye_size) * bow
    blend(colours, dark_skin * 0.8, 0.6 * np.clip(1 - np.abs(crease) / 0.1, 0, 1) * (bow > 0.1))
    blend(colours, (40, 26, 22), np.clip(1.2 - np.abs(v + upper * bow) / 0.09, 0, 1) * (np.abs(u) < 1.03))  # lashes
    blend(colours, dark_skin * 0.9, 0.6 * np.clip(1 - np.abs(v - lower * bow) / 0.08, 0, 1) * (np.abs(u) < 1))
    eye = edge(inside, 0.1) * (np.abs(u) < 1)
    white = np.array((238, 234, 230)) * (0.78 + 0.22 * identity.lids)
    blend(colours, white, eye)
    gaze = identity.gaze
    across, along = side - EYE[0] - gaze[0] * np.sign(x), v + 0.06 - gaze[1]
    radius = np.hypot(across, along)
    blend(colours, np.array(identity.iris) * 0.5, eye * edge(0.68 - radius, 0.1))
    blend(colours, identity.iris, eye * edge(0.56 - radius, 0.14))
    blend(colours, (12, 10, 10), eye * edge(0.26 - radius, 0.08))
    blend(colours, (30, 22, 20), 0.22 * eye * np.clip(1 - (v + upper * bow) / 0.35, 0, 1))  # the lid's shadow
    glint = np.hypot(across * np.sign(x) + 0.2, along + 0.2)
    blend(colours, (255, 255, 255), eye * edge(0.12 - glint, 0.06))
    arch = y + 2.12 - identity.arch * (side - 3.6) ** 2 + 0.12 * np.clip(side - 2, 0, 3)
    thick = 0.36 * identity.brows * np.clip((6.4 - side) / 3, 0, 1)
    brow = edge(thick - np.abs(arch), 0.3) * edge(side - 1.5, 0.7) * edge(6.0 - side, 0.6)
    blend(colours, hair * 0.6, 0.8 * brow)


def _paint_mouth(identity: Identity, colours: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Lips, what is seen between them, nostrils."""
    skin, half = np.array(identity.skin), 2.65 * identity.mouth_width
    shape, d = np.clip(1 - (x / half) ** 2, 0, 1), y - SEAM
    bow = shape - 0.14 * np.exp(-((x / 0.3) ** 2)) - 0.1 * np.exp(-(((np.abs(x) - 1.9) / 0.6) ** 2))
    lips = np.where(d < 0, 0.72 * identity.lips * bow + d, 0.9 * identity.lips * shape - d)
    red = skin * (0.86, 0.6, 0.6) + (14, 0, 2)
    red += identity.makeup * (np.array(identity.lipstick) - red)
    blend(colours, red, (0.75 + 0.25 * identity.makeup) * edge(lips, 0.2) * (np.abs(x) < half))
    blend(colours, skin * 0.45, 0.5 * np.clip(1 - np.abs(d) / 0.12, 0, 1) * shape)
    gap = 0.03 + np.clip(identity.opening, 0, 0.12)
    inner = edge(gap - np.abs(d), 0.06) * edge(shape - 0.06, 0.1)
    blend(colours, (48, 18, 18), inner)
    if identity.opening > 0.15:
        teeth = edge(min(identity.teeth, 0.2 / identity.opening) - (d + 0.12), 0.03) * edge(shape - 0.35, 0.3)
        blend(colours, (226, 218, 204), inner * teeth)
        blend(colours, (150, 76, 76), 0.7 * inner * edge(d - 0.06, 0.05))
    nostril = bump(np.abs(x), y, 0.68 * identity.nose_width, 4.68, 0.34, 0.2)
    blend(colours, (45, 22, 18), np.clip(1.4 * nostril, 0, 1))


def _paint_beard(
    identity: Identity, colours: np.ndarray, x: np.ndarray, y: np.ndarray, turned: np.ndarray, rng: np.random.Generator
) -> None:
    """Stubble, moustache, goatee or full beard; none on the lips."""
    side = np.abs(x)
    hairs = identity.beard * (0.75 + 0.5 * rng.random(x.shape, np.float32))
    lips = edge(np.hypot(x / (2.7 * identity.mouth_width), (y - 7.0) / (0.85 * identity.lips)) - 1, 0.25)
    if identity.beard_kind == "moustache":
        where = edge(0.75 - np.abs(y - 5.75 - 0.09 * side**2), 0.4) * edge(3.1 - side, 0.6)
    elif identity.beard_kind == "goatee":
        where = edge(3.1 - np.hypot(side, 0.75 * (y - 8.4)), 0.7)
    else:
        where = edge(y - 5.6 + 2.6 * edge(side - 3.2, 2), 1.2) * edge(np.radians(86) - turned, 0.25)
    dense = 0.45 if identity.beard_kind == "stubble" else 1.0
    blend(colours, np.array(identity.hair) * 0.9, np.clip(dense * where * lips * hairs, 0, 0.95))


def _paint_age(identity: Identity, colours: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Folds beside the nose (deeper with a smile), lines on the forehead and bags below the eyes."""
    side, skin = np.abs(x), np.array(identity.skin)
    fold = side - 1.65 - 0.5 * (y - 4.3)
    depth = (0.1 + 0.35 * identity.age + 0.2 * max(identity.smile, 0)) * edge(y - 4.6, 0.8) * edge(7.6 - y, 1.0)
    weight = depth * np.exp(-((fold / 0.22) ** 2))
    if identity.age > 0.3:
        lines = np.clip(np.sin(y * 6.5 + 0.4 * np.cos(x)) - 0.55, 0, 1) * edge(-3 - y, 0.6) * edge(5.5 - side, 1.5)
        bags = bump(side, y - 1.0 + 0.12 * (side - 3.3) ** 2, 3.3, 0, 1.5, 0.16)
        weight = weight + identity.age * (0.5 * lines + 0.35 * bags)
    blend(colours, skin * 0.55, np.clip(weight, 0, 0.8))


def _face_colours(
    identity: Identity, x: np.ndarray, y: np.ndarray, turned: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Colours of the face, (rows, columns, 3) float32: tone, blush, the shade of its hollows, eyes, mouth, beard."""
    side, skin = np.abs(x), np.array(identity.skin)
    colours = np.full((*x.shape, 3), identity.skin, np.float32)
    height = y[:, 0]

    def band(top: float, bottom: float) -> slice:
        return slice(*np.searchsorted(height, (top, bottom)).tolist())

    blend(colours, skin * (1.0, 0.72, 0.7), identity.blush * bump(side, y, 4.2, 3.6, 1.8, 1.6))
    hollows = 0.3 * bump(side, y, 1.75, 4.3, 0.3, 0.7) + 0.5 * bump(x, y, 0, 5.0, 1.4, 0.3)
    blend(colours, skin * 0.55, hollows + 0.3 * bump(x, y, 0, 8.7, 1.8, 0.4))
    if identity.freckles:
        spots = grain(rng, x.shape, (3, 3)) - 1.3
        blend(colours, skin * (0.72, 0.6, 0.5), identity.freckles * np.clip(spots, 0, 1) * edge(7 - y, 4))
    _paint_age(identity, colours, x, y)
    if identity.beard:
        low = band(1.5, 13)
        _paint_beard(identity, colours[low], x[low], y[low], turned, rng)
    for paint, rows in ((_paint_eyes, band(-4.2, 2.2)), (_paint_mouth, band(4.0, 8.6))):
        paint(identity, colours[rows], x[rows], y[rows])
    return colours
