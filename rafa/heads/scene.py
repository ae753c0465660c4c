"""What surrounds a synthetic head: background, other people, light, and what the camera does to the image."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

GALLERY = 24  # other people, each in one pose, who stand behind heads
PORTRAIT: dict[str, Any] = {"scale": 7.0, "centre": (180.0, 150.0)}  # before they are scaled


# --- Scenes -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Scene:
    """What surrounds a head: background (h, w, 3) RGB uint8, light, and what the camera does to the image."""

    background: np.ndarray
    light: tuple[float, ...]  # unit vector towards the light, image axes
    ambient: float  # 0..1
    follow: float  # share of the head's rotation that the body makes too
    gain: tuple[float, ...]  # per RGB channel
    blur: float  # pixels
    noise: float  # grey levels
    grey: bool
    brightness: float | None = None  # grey level to which the camera's exposure brings the face; None: as it is lit
    tint: tuple[float, ...] = (1.0, 1.0, 1.0)  # of the light, per RGB channel
    shadow: float = 0.0  # 0..1: how dark the shadows are that the head casts on itself
    second_light: tuple[float, ...] = (0.0, 0.0, 1.0)  # unit vector
    second_tint: tuple[float, ...] = (0.0, 0.0, 0.0)
    shine: float = 1.0  # of skin and hair
    companions: tuple["Companion", ...] = ()
    props: tuple["Prop", ...] = ()
    border: tuple[float, ...] = (np.inf,) * 4  # black above, below, left, right: distance from the face, in faces


@dataclass(frozen=True)
class Companion:
    """Somebody behind the head: number in the gallery, place beside the head (x, y) in cm, size, side, brightness."""

    number: int
    place: tuple[float, float]
    size: float = 1.0
    mirrored: bool = False
    brightness: float = 1.0
    blur: float = 0.0  # pixels


@dataclass(frozen=True)
class Prop:
    """Something before the face: a hand, a microphone or a cup."""

    kind: str
    landmark: int  # that it is held at, 0..67
    direction: float  # radians in the image from there to where it comes from: 0 right, pi / 2 down
    size: float = 1.0
    colour: tuple[float, ...] = (40.0, 40.0, 40.0)  # of the sleeve, of a microphone, of a cup


def random_scene(rng: np.random.Generator, size: int = 450) -> Scene:
    """A random `Scene` for an image of size × size pixels."""
    return Scene(
        background=_background(rng, size),
        follow=float(rng.uniform(0.15, 0.8)),
        gain=tuple(rng.uniform(0.93, 1.07, 3)),
        blur=float(rng.uniform(0, 1.1)),
        noise=float(rng.uniform(0, 6)),
        grey=bool(rng.random() < 0.12),
        brightness=float(np.clip(rng.normal(140, 42), 35, 225)),  # faces come out as bright as AFLW2000's
        **_random_light(rng),
        companions=_random_companions(rng),
        props=_random_props(rng),
        border=tuple(np.where(rng.random(4) < 0.3 * (rng.random() < 0.3), rng.uniform(-0.06, 0.5, 4), np.inf).tolist()),
    )


def _unit(*vector: float) -> tuple[float, ...]:
    return tuple((np.array(vector) / np.linalg.norm(vector)).tolist())


def _random_light(rng: np.random.Generator) -> dict[str, Any]:
    """Soft light, or hard light from a side, from behind, or of two colours."""
    kind = rng.choice(["soft", "side", "behind", "two"], p=[0.6, 0.22, 0.06, 0.12])
    side = rng.choice([-1.0, 1.0])
    light = {
        "soft": (rng.uniform(-1, 1), rng.uniform(-1, 0.25), rng.uniform(0.25, 1)),
        "side": (side * rng.uniform(0.6, 1), rng.uniform(-0.8, 0.3), rng.uniform(-0.1, 0.5)),
        "behind": (side * rng.uniform(0.3, 1), rng.uniform(-1, 0.1), rng.uniform(-1, -0.25)),
        "two": (side * rng.uniform(0.5, 1), rng.uniform(-0.8, 0.3), rng.uniform(0, 0.6)),
    }[kind]
    dim = {"soft": (0.4, 0.8), "side": (0.12, 0.5), "behind": (0.25, 0.7), "two": (0.2, 0.5)}[kind]
    second = _unit(-side, rng.uniform(-0.6, 0.4), rng.uniform(-0.4, 0.4))
    vivid = rng.uniform(0.05, 0.5) if kind == "two" else rng.uniform(0, 0.2)
    return {
        "light": _unit(*light),
        "ambient": float(rng.uniform(*dim)),
        "tint": tuple((1 + vivid * rng.uniform(-1, 1, 3)).tolist()),
        "shadow": float(rng.uniform(0.1, 0.6) if kind == "soft" else rng.uniform(0.5, 1)),
        "second_light": second,
        "second_tint": tuple(rng.uniform(0, 0.8, 3).tolist()) if kind == "two" else (0.0, 0.0, 0.0),
        "shine": float(rng.choice([1.0, rng.uniform(1, 4)])),
    }


# --- Backgrounds ------------------------------------------------------------------------------------------------------
def _palette(rng: np.random.Generator) -> Callable[..., np.ndarray]:
    """Draws float32 RGB colours that go together."""
    vividness, middle, spread = rng.uniform(0.02, 0.6), rng.uniform(20, 235), rng.uniform(20, 200)

    def colours(*shape: int) -> np.ndarray:
        grey = middle + spread * rng.uniform(-1, 1, (*shape, 1))
        return np.clip(grey + vividness * rng.uniform(-160, 160, (*shape, 3)), 0, 255).astype(np.float32)

    return colours


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """(size, size, 3) uint8: clutter, walls, leaves or writing, sharp or out of focus."""
    kinds = [_clutter, _plain, _stripes, _bricks, _leaves, _writing]
    draw = kinds[rng.choice(len(kinds), p=[0.36, 0.18, 0.12, 0.1, 0.14, 0.1])]
    image = draw(rng, size // 2, _palette(rng))
    blur = float(rng.uniform(0, 3) if rng.random() < 0.6 else 0)
    image = cv2.GaussianBlur(image, (0, 0), blur) if blur > 0.3 else image
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    return np.clip(image, 0, 255).astype(np.uint8)


def _plain(rng: np.random.Generator, size: int, colours: Callable[..., np.ndarray]) -> np.ndarray:
    """One colour or a gradient, often as white as an overexposed sky or as black as a studio."""
    corners = colours(2, 2)
    corners += (colours() - corners) * rng.uniform(0, 1)
    kind = rng.random()
    if kind < 0.5:
        corners = corners * 0.08 + (235 if kind < 0.33 else 3)
    return cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)


def _clutter(rng: np.random.Generator, size: int, colours: Callable[..., np.ndarray]) -> np.ndarray:
    """A coloured gradient and shapes."""
    cells = colours(*rng.integers(2, 7, 2))
    cells += (colours() - cells) * rng.uniform(0.1, 0.85)
    image = cv2.resize(cells, (size, size), interpolation=cv2.INTER_CUBIC)
    for _ in range(rng.integers(0, 16)):
        corners = rng.uniform(-0.2, 1.2, 2) * size + rng.normal(0, 0.15 * size, (rng.integers(3, 6), 2))
        if rng.random() < 0.5:
            cv2.fillPoly(image, [corners.astype(np.int32)], colours().tolist(), cv2.LINE_AA)
        else:
            radius = int(rng.uniform(0.02, 0.2) * size)
            cv2.circle(image, corners[0].astype(int).tolist(), radius, colours().tolist(), -1, cv2.LINE_AA)
    return image


def _stripes(rng: np.random.Generator, size: int, colours: Callable[..., np.ndarray]) -> np.ndarray:
    """Slanted bands of a few colours, as of curtains, blinds and fences."""
    slant, waves = rng.choice([0.0, np.pi / 2, rng.uniform(0, np.pi)]), rng.uniform(2, 20)
    along = np.cos(slant) * np.arange(size) + np.sin(slant) * np.arange(size)[:, None]
    bands = colours(rng.integers(2, 5))
    position = along * (waves / size) % 1 * len(bands)
    image = bands[position.astype(int) % len(bands)]
    return image * (0.85 + 0.15 * np.cos(2 * np.pi * position))[..., None].astype(np.float32)


def _bricks(rng: np.random.Generator, size: int, colours: Callable[..., np.ndarray]) -> np.ndarray:
    """Rows of rectangles with seams between: bricks, tiles, shelves of books, windows of a house."""
    tall, shift = int(rng.uniform(0.04, 0.25) * size), rng.choice([0, 0.5, rng.random()])
    broad = max(int(tall * rng.choice([0.4, 1, rng.uniform(1, 3)])), 6)
    seam = max(1, int(tall * rng.uniform(0.03, 0.3)))
    ground, tone, variety = colours(), colours(), rng.uniform(0, 0.5)
    image: np.ndarray = np.full((size, size, 3), ground)
    for number, top in enumerate(range(int(-tall * rng.random()), size, tall)):
        for left in range(int(-broad * (1 + shift * number % 1)), size, broad):
            colour = tone + variety * (colours() - tone)
            image[max(top, 0) : max(top + tall - seam, 0), max(left, 0) : max(left + broad - seam, 0)] = colour
    if rng.random() < 0.4:
        matrix = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-25, 25), 1.25)
        image = cv2.warpAffine(image, matrix, (size, size), borderMode=cv2.BORDER_REFLECT)
    return image


def _leaves(rng: np.random.Generator, size: int, colours: Callable[..., np.ndarray]) -> np.ndarray:
    """Noise of several grain sizes between two or three colours: leaves, stone, water, cloth."""
    noise, cells = np.zeros((size, size), np.float32), rng.integers(3, 12)
    for octave in range(4):
        coarse = rng.standard_normal((2 + (cells << octave),) * 2, np.float32)
        grain = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
        noise += grain * np.float32(rng.uniform(0.4, 0.9) ** octave)
    tones = cv2.resize(colours(1, rng.integers(2, 5)), (256, 1))[0]
    return tones[np.clip(noise * 60 * rng.uniform(0.6, 2) + 128, 0, 255).astype(np.uint8)]


def _writing(rng: np.random.Generator, size: int, colours: Callable[..., np.ndarray]) -> np.ndarray:
    """Rows of marks that look like writing on posters and signs."""
    image = _plain(rng, size, colours)
    for _ in range(rng.integers(1, 9)):
        text = "".join(map(chr, rng.integers(33, 123, rng.integers(2, 14))))
        place, scale = (rng.uniform(-0.2, 0.8, 2) * size).astype(int).tolist(), rng.uniform(0.5, 4)
        colour, weight, font = colours().tolist(), int(rng.uniform(0.8, 3) * scale) + 1, int(rng.integers(8))
        cv2.putText(image, text, place, font, scale, colour, weight, cv2.LINE_AA)
    return image


# --- Other people -----------------------------------------------------------------------------------------------------
def _random_companions(rng: np.random.Generator) -> tuple[Companion, ...]:
    """Mostly nobody; else one or two people beside or behind the head, or a crowd."""
    kind = rng.choice(["nobody", "near", "crowd"], p=[0.74, 0.2, 0.06])
    count = {"nobody": 0, "near": int(rng.integers(1, 3)), "crowd": int(rng.integers(4, 9))}[kind]
    near, focus = kind == "near", float(rng.choice([0, rng.uniform(0, 4)]))
    return tuple(
        Companion(
            number=int(rng.integers(GALLERY)),
            place=(float(rng.choice([-1, 1]) * rng.uniform(10, 24)), float(rng.normal(1 if near else -2, 5))),
            size=float(rng.uniform(0.7, 1.25) if near else rng.uniform(0.25, 0.6)),
            mirrored=bool(rng.random() < 0.5),
            brightness=float(rng.uniform(0.3, 1.3)),
            blur=focus,
        )
        for _ in range(count)
    )


def paint_companion(
    image: np.ndarray, portrait: np.ndarray, someone: Companion, origin: np.ndarray, scale: float
) -> None:
    """Paint a portrait (rows, columns, 4), drawn as in PORTRAIT, into a float32 image whose head is at origin."""
    factor = scale * someone.size / PORTRAIT["scale"]
    size = np.maximum(np.round(np.array(portrait.shape[1::-1]) * factor), 2).astype(int)
    corner = np.round(origin + np.array(someone.place) * scale - np.array(PORTRAIT["centre"]) * factor).astype(int)
    low, high = np.maximum(corner, 0), np.minimum(corner + size, image.shape[1::-1])
    if (high <= low).any():
        return
    method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    layers = cv2.resize(portrait[:, ::-1] if someone.mirrored else portrait, size.tolist(), interpolation=method)
    if someone.blur > 0.3:
        layers = cv2.GaussianBlur(layers, (0, 0), someone.blur)
    seen = layers[low[1] - corner[1] : high[1] - corner[1], low[0] - corner[0] : high[0] - corner[0]]
    seen = seen.astype(np.float32)
    place = image[low[1] : high[1], low[0] : high[0]]
    place *= 1 - seen[..., 3:] / 255
    place += seen[..., :3] * np.float32(someone.brightness)


# --- Things before the face -------------------------------------------------------------------------------------------
def _random_props(rng: np.random.Generator) -> tuple[Prop, ...]:
    """Mostly nothing; else a hand at the jaw, the cheek or the temple, or a microphone or a cup at the mouth."""
    kind = rng.choice(["", "hand", "microphone", "cup"], p=[0.88, 0.08, 0.02, 0.02])
    if not kind:
        return ()
    right = rng.random() < 0.5
    places = ([11, 12, 13, 14, 8, 25] if right else [5, 4, 3, 2, 8, 18]) if kind == "hand" else [57, 8]
    direction = rng.uniform(0.15, 1.5) if right else np.pi - rng.uniform(0.15, 1.5)
    colour = tuple(rng.uniform(10, 230, 3).tolist())
    return (Prop(str(kind), int(rng.choice(places)), float(direction), float(rng.uniform(0.8, 1.3)), colour),)


def _capsules(prop: Prop, skin: tuple[float, ...]) -> list[tuple[np.ndarray, np.ndarray, float, np.ndarray]]:
    """Pieces of a prop whose landmark is the origin: two ends (x, y) and radius in cm, colour; the last lies on top."""
    out = np.array([np.cos(prop.direction), np.sin(prop.direction)]) * prop.size
    aside = np.array([-out[1], out[0]])
    tone, colour = np.array(skin), np.array(prop.colour)
    if prop.kind == "microphone":
        return [(out * 3, out * 40, 1.2 * prop.size, colour * 0.4), (out * 2, out * 2.5, 2.4 * prop.size, colour * 0.7)]
    if prop.kind == "cup":
        return [(out * 3.5, out * 8, 3.6 * prop.size, colour), (out * 1.5, out * 1.6, 3.2 * prop.size, colour * 0.8)]
    fingers = [
        (out * 3 + aside * side, aside * side * 1.2 - out * reach, 0.85 * prop.size, tone * (0.94 + 0.03 * number))
        for number, (side, reach) in enumerate(((-2.4, 2.5), (-0.8, 4.2), (0.8, 4.6), (2.4, 3.6)))
    ]
    arm = (out * 8, out * 60, 3.2 * prop.size, colour)
    return [
        arm,
        (out * 5, out * 14, 2.6 * prop.size, tone * 0.9),
        (out * 3.5, out * 6, 3.6 * prop.size, tone),
        *fingers,
    ]


def paint_prop(
    image: np.ndarray,
    mask: np.ndarray,
    prop: Prop,
    skin: tuple[float, ...],
    landmarks: np.ndarray,
    scale: float,
    light: tuple,
) -> None:
    """Paint a prop into a float32 image as brightly as the head is lit, and take it out of the head's mask."""
    bright = np.clip(image[mask].mean() / np.mean(skin), 0.15, 1.2) if mask.any() else 1.0
    layer, cover = np.zeros(image.shape, np.uint8), np.zeros(mask.shape, np.uint8)
    for start, end, radius, colour in _capsules(prop, skin):
        for tone, share in ((0.6, 1.0), (0.85, 0.85), (1.0, 0.6), (1.1, 0.3)):
            shift = np.array(light[:2]) * radius * (1 - share) * 0.8
            ends = (np.array([start, end]) + shift) * scale + landmarks[:, prop.landmark]
            one, other = ends.astype(int).tolist()
            thick = max(1, round(2 * radius * share * scale))
            cv2.line(layer, one, other, np.clip(colour * tone * bright, 0, 255).tolist(), thick, cv2.LINE_AA)
            cv2.line(cover, one, other, (255,), thick, cv2.LINE_AA)
    soft = cv2.GaussianBlur(layer, (0, 0), max(0.3, 0.12 * scale))
    image += (soft - image) * (cover[..., None] * np.float32(1 / 255))
    mask[cover > 127] = False
