"""The image of a synthetic head of known pose, drawn by numpy and OpenCV.

The surfaces of `head_surface` are turned, sorted by depth and drawn as points, so that the nearest wins. What is seen
is shaded, put before a background, perhaps other people, and its own shoulders, perhaps behind a hand, and given a
camera's exposure, blur and noise. The projection is orthographic: the nose points where the angles say, wherever in
the image the head stands.
"""

import functools
from typing import Any

import cv2
import numpy as np

from rafa.heads.head import head_surface, neck_surface
from rafa.heads.scene import PORTRAIT, Scene, paint_companion, paint_prop, random_scene
from rafa.heads.shape import Identity, Surface, random_identity
from rafa.pose import rotation_matrix

WINDOW = 37.0  # cm: side of the square that is drawn around a head
RESOLUTION = 10.0  # pixels per cm at which the points are drawn, before they are scaled into the image


# --- One image --------------------------------------------------------------------------------------------------------
def render_head(
    identity: Identity,
    angles: np.ndarray | tuple[float, ...],
    *,
    size: int = 450,
    scale: float | None = None,
    centre: np.ndarray | tuple[float, float] | None = None,
    scene: Scene | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Draw one head.

    Args:
        identity: who it is.
        angles: yaw, pitch, roll in radians, list signs.
        size: side of the image in pixels; that of a given scene counts.
        scale: pixels per cm; None: 13 / 450 of the height.
        centre: (x, y) pixel of the head's origin, between the ears; None: the middle of the image.
        scene: None: a random one.
        rng: for scene, box and noise; None: seeded with 0.

    Returns:
        RGB uint8 image (height, width, 3), and a dict: `landmarks` (3, 68) x and y in pixels, z towards the viewer;
        `box` (row, column, size) of the face; `mask` (height, width) bool, true where head, hair, ears or headwear are
        seen.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    scene = random_scene(rng, size) if scene is None else scene
    height, width = scene.background.shape[:2]
    scale = 13 / 450 * height if scale is None else float(scale)
    origin = np.array([(width - 1) / 2, (height - 1) / 2] if centre is None else centre, float)
    angles = np.asarray(angles, float)
    rotation = rotation_matrix(angles)
    body = rotation_matrix(angles * (scene.follow, scene.follow / 2, scene.follow))

    image = scene.background.astype(np.float32)
    for someone in sorted(scene.companions, key=lambda companion: companion.size):
        paint_companion(image, _portrait(someone.number), someone, origin, scale)
    _draw_body(image, identity, body, origin, scale, scene.light)
    mask = _draw_head(image, identity, rotation, body, origin, scale, scene)
    landmarks = rotation @ head_surface(identity)[1] * scale
    landmarks[:2] += origin[:, None]
    for prop in scene.props:
        paint_prop(image, mask, prop, identity.skin, landmarks[:2], scale, scene.light)
    image = _photograph(_exposed(image, mask, landmarks[:2], scene), scene, rng)
    _blacken(scene.border, landmarks[:2], image, mask)
    return image, {
        "landmarks": landmarks,
        "box": _face_box(landmarks[:2], rotation, rng),
        "mask": mask,
    }


@functools.cache
def _portrait(number: int) -> np.ndarray:
    """Somebody of the gallery, drawn as in PORTRAIT: uint8 RGB, and coverage by which it has been multiplied."""
    rng, views = np.random.default_rng([20261125, number]), []
    identity, angles = random_identity(rng), np.radians(rng.uniform((-90, -30, -20), (90, 20, 20)))
    light = (float(rng.uniform(-0.7, 0.7)), -0.4, 0.6)
    for grey in (0, 255):  # what differs before black and before white is not covered
        background = np.full((560, 360, 3), grey, np.uint8)
        scene = Scene(background, light, 0.5, 0.5, gain=(1.0, 1.0, 1.0), blur=0.0, noise=0.0, grey=False)
        views.append(render_head(identity, angles, scene=scene, **PORTRAIT)[0])
    return np.dstack([views[0], 255 - (views[1][..., 1] - views[0][..., 1])])


def _blacken(border: tuple[float, ...], landmarks: np.ndarray, image: np.ndarray, mask: np.ndarray) -> None:
    """Black where the photograph has ended: above, below, left and right of the face."""
    low, high = landmarks.min(axis=1), landmarks.max(axis=1)
    size = float(np.sqrt(np.prod(high - low)))
    top, left = (low[::-1] - size * np.array([border[0], border[2]])).clip(0, 1e6).astype(int)
    bottom, right = (high[::-1] + size * np.array([border[1], border[3]])).clip(0, 1e6).astype(int)
    for dark in (np.s_[:top], np.s_[bottom:], np.s_[:, :left], np.s_[:, right:]):
        image[dark] = 0
        mask[dark] = False


def _draw_body(
    image: np.ndarray, identity: Identity, rotation: np.ndarray, origin: np.ndarray, scale: float, light: tuple
) -> None:
    """Paint shoulders into the image: a flat shape at the collar, narrower as the body turns aside."""
    right, down = rotation[:2, 0], rotation[:2, 1]
    flank = [(5.8, 14.6), (7.2, 15.6), (12, 17.4), (17, 19.0), (20, 21.4), (22, 26), (24, 75)]
    outline = np.array([(-x, y) for x, y in flank[::-1]] + flank)
    outline[:, 0] *= max(0.6, float(np.hypot(*right)))
    axis = down / max(float(np.hypot(*down)), 1e-6)
    centre = down * 15.8 + rotation[:2, 2] * -3.5
    places = outline[:, :1] * (axis[1], -axis[0]) + (outline[:, 1:] - 15.8) * axis + centre
    shape = np.zeros(image.shape[:2], np.uint8)
    cv2.fillPoly(shape, [np.round((places * scale + origin) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    across = (np.arange(image.shape[1]) - origin[0]) / (20 * scale)
    shade = np.clip(0.75 + 0.3 * light[0] * across - 0.12 * across**2, 0.25, 1.1).astype(np.float32)[None, :, None]
    below = np.s_[np.argmax(shape.any(axis=1)) :]
    alpha = shape[below][..., None] * np.float32(1 / 255)
    image[below] += (np.array(identity.shirt, np.float32) * shade - image[below]) * alpha


def _draw_head(
    image: np.ndarray,
    identity: Identity,
    rotation: np.ndarray,
    body: np.ndarray,
    origin: np.ndarray,
    scale: float,
    scene: Scene,
) -> np.ndarray:
    """Paint head and neck into the image; returns the mask of the head, (height, width) bool."""
    head, _ = head_surface(identity)
    neck = neck_surface(identity, rotation.T @ body)
    surface = Surface(*(np.concatenate(layers, axis=1) for layers in zip(head, neck, strict=True)))
    pixels = int(np.ceil(WINDOW * scale))
    corner = np.floor(origin - pixels / 2 + 0.5).astype(int)
    side = round(WINDOW * min(RESOLUTION, 2 * scale))
    zoom = side / pixels
    nearest = _rasterise(surface, rotation, (origin - corner + 0.5) * zoom, side, scale * zoom)
    on_head = ((nearest >= 0) & (nearest < head.points.shape[1])).astype(np.float32)
    method = cv2.INTER_AREA if zoom > 1 else cv2.INTER_LINEAR
    drawn = cv2.resize(_shade(surface, nearest, rotation, scene), (pixels, pixels), interpolation=method)
    on_head = cv2.resize(on_head, (pixels, pixels), interpolation=method)

    height, width = image.shape[:2]
    mask = np.zeros((height, width), bool)
    top, left = np.maximum(corner[::-1], 0)
    bottom, right = np.minimum(corner[::-1] + pixels, (height, width))
    if bottom > top and right > left:
        window = np.s_[top - corner[1] : bottom - corner[1], left - corner[0] : right - corner[0]]
        image[top:bottom, left:right] *= 1 - drawn[window][..., 3:]
        image[top:bottom, left:right] += drawn[window][..., :3]
        mask[top:bottom, left:right] = on_head[window] > 0.5
    return mask


def _turn(rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Rows @ (3, n) vectors, element by element: BLAS may round otherwise when its number of threads changes."""
    x, y, z = vectors
    return np.stack([a * x + b * y + c * z for a, b, c in rows.astype(np.float32)])


def _rasterise(surface: Surface, rotation: np.ndarray, offset: np.ndarray, side: int, step: float) -> np.ndarray:
    """Number of the nearest point at each pixel of a (side, side) window, -1 where there is none.

    Each point covers two by two pixels; later points win, so they come in order of depth. `offset` is the window's
    pixel of the origin, `step` the pixels per cm.
    """
    facing = np.flatnonzero(_turn(rotation[2:], surface.normals) > 0)
    x, y, depth = _turn(rotation, np.take(surface.points, facing, axis=1))
    column, row = (x * step + offset[0]).astype(np.int32), (y * step + offset[1]).astype(np.int32)
    seen = np.flatnonzero((column >= 0) & (column < side - 1) & (row >= 0) & (row < side - 1))
    seen = seen[np.argsort(np.clip((depth[seen] + 40) * 800, 0, 65535).astype(np.uint16), kind="stable")]
    flat = np.full(side * side, -1, np.int32)
    corner = row[seen] * side + column[seen]
    flat[corner[:, None] + np.array([0, 1, side, side + 1], np.int32)] = facing[seen].astype(np.int32)[:, None]
    nearest = flat.reshape(side, side)
    closed = cv2.morphologyEx((nearest >= 0).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    filled = cv2.dilate(nearest.astype(np.float32), np.ones((5, 5), np.uint8)).astype(np.int32)
    return np.where((nearest < 0) & (closed > 0), filled, nearest)


def _shade(surface: Surface, nearest: np.ndarray, rotation: np.ndarray, scene: Scene) -> np.ndarray:
    """(side, side, 4) float32 RGB and coverage of what `_rasterise` found."""
    light = np.array(scene.light, np.float32)
    second = np.array(scene.second_light, np.float32)
    tint, second_tint = (np.array(values, np.float32)[:, None] for values in (scene.tint, scene.second_tint))
    seen = np.flatnonzero(nearest >= 0)
    number = nearest.ravel()[seen]
    open_sky, reached = (layer.ravel()[seen] for layer in _reach(surface, nearest, rotation, scene))
    nx, ny, nz = _turn(rotation, np.take(surface.normals, number, axis=1))
    lit = np.clip((nx * light[0] + ny * light[1] + nz * light[2] + 0.25) / 1.25, 0, 1) * reached
    gloss = np.clip(nx * light[0] / 1.6 + ny * light[1] / 1.6 + nz * (light[2] + 1) / 1.6, 0, 1) ** 8
    edge = 0.8 + 0.2 * nz
    soft = scene.ambient * (0.9 - 0.1 * ny) * open_sky
    amount = (soft + (1.15 - scene.ambient) * lit * tint) * edge
    if any(scene.second_tint):
        amount += second_tint * np.clip(nx * second[0] + ny * second[1] + nz * second[2], 0, 1)
    shine = 16 * scene.shine * gloss * gloss * gloss * reached
    colours = np.take(surface.colours, number, axis=1) * amount + shine * tint
    flat = np.zeros((nearest.size, 4), np.float32)
    flat[seen, :3], flat[seen, 3] = colours.T, 1
    return flat.reshape(*nearest.shape, 4)


def _reach(surface: Surface, nearest: np.ndarray, rotation: np.ndarray, scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """How much of the sky and of the light reaches each pixel, float32 0..1: hollows and shadows are darker.

    Found on a coarse map of depths, by steps along the ray towards the light.
    """
    coarse = np.ascontiguousarray(nearest[::4, ::4])
    depth, here = np.full(coarse.shape, -40, np.float32), coarse >= 0
    (depth[here],) = _turn(rotation[2:], np.take(surface.points, coarse[here], axis=1))
    cell = WINDOW / coarse.shape[0]  # cm
    level = cv2.GaussianBlur(np.maximum(depth, -12), (0, 0), 1.3 / cell)
    sky = 1 - np.clip((level - depth - 0.2) * 0.3, 0, 0.5)
    direct: np.ndarray = np.ones_like(depth)
    if scene.shadow and scene.light[2] > -0.3:
        lx, ly, lz = scene.light
        for distance in np.geomspace(1.2, 9, 9):
            shift = np.array([[1, 0, lx * distance / cell], [0, 1, ly * distance / cell]])
            ahead = cv2.warpAffine(
                depth, shift, depth.shape[::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderValue=-40
            )
            above = ahead - depth - lz * distance  # of what stands there over the ray
            direct = np.minimum(direct, 1 - scene.shadow * np.clip((above - 0.25) / 0.5, 0, 1))
        direct = cv2.GaussianBlur(direct, (0, 0), 0.2 / cell)
    side = nearest.shape[::-1]
    return cv2.resize(sky, side), cv2.resize(direct, side)  # bilinear


def _exposed(image: np.ndarray, mask: np.ndarray, landmarks: np.ndarray, scene: Scene) -> np.ndarray:
    """The image after an automatic exposure for the face; dark skin stays darker than fair skin."""
    left, top = landmarks.min(axis=1).clip(0, 1e6).astype(int)
    right, bottom = landmarks.max(axis=1).clip(0, 1e6).astype(int)
    face = image[top:bottom, left:right][mask[top:bottom, left:right]]
    if scene.brightness is None or not face.size:
        return image
    return image * np.float32(np.clip((scene.brightness / max(face.mean(), 1.0)) ** 0.75, 0.4, 5))


def _photograph(image: np.ndarray, scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """What the camera adds: colour, blur, noise."""
    image = image * np.array(scene.gain, np.float32)
    if scene.grey:
        image = np.repeat(image @ np.array([[0.299], [0.587], [0.114]]), 3, axis=2)
    if scene.blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), scene.blur)
    image += rng.standard_normal((*image.shape[:2], 1), np.float32) * np.float32(scene.noise)
    return np.clip(image, 0, 255, out=image).astype(np.uint8)


def _face_box(landmarks: np.ndarray, rotation: np.ndarray, rng: np.random.Generator) -> tuple[int, int, int]:
    """Row, column, size of a square box like those of the published AFLW2000 list, with a detector's jitter.

    Fitted by eye to medians over bins of yaw, measured against `pt3d_68` of 394 listed images: the size falls from
    1.06 (below 15°) to 0.83 (above 75°) of the landmarks' mean side, while the box moves by up to 0.37 of its size
    to where the nose points.
    """
    low, high = landmarks.min(axis=1), landmarks.max(axis=1)
    sideways = rotation[0, 2]
    size = np.sqrt(np.prod(high - low)) * (1.06 - 0.22 * sideways**2) * rng.normal(1, 0.03)
    middle = (low + high) / 2 + size * (np.array([0.38 * sideways, -0.06]) + rng.normal(0, 0.02, 2))
    column, row = np.round(middle - size / 2).astype(int).tolist()
    return row, column, round(float(size))
