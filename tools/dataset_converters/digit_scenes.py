"""Scenes of several handwritten digits on coloured texture, with their masks and boxes.

Brightness alone does not find a digit: the background drifts from dark to bright, stripes
cross it, and an ink may be darker or brighter than what is under it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.Image import Resampling

BACKGROUND = 10  # the mask's label where there is no digit
BRIGHTNESS = (20, 236)  # of the background, 0…255
COLOURS = (-60, 60)  # what its red, green and blue differ from that by
DRIFTS = (48, 24)  # px over which brightness and colours change
PERIODS = (4, 16)  # px, of the stripes
STRIPES = 25  # of 255, their largest amplitude
INKS = 12  # colours to choose a digit's from
INK_COLOURS = (-100, 100)  # what an ink's red, green and blue differ from its grey by
NOISE = 5  # of 255, standard deviation
GAP = 2  # px between boxes, at least
DRAWS = 12  # digits to try before a scene gets fewer than it should
REFERENCE = 100  # px, to measure a digit's proportions at


class Digits(NamedTuple):
    """Images (N, 8, 8) from 0 to 1, labels 0…9, and numbers in the data set."""

    images: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray


@dataclass(frozen=True)
class Form:
    """What the scenes of a data set have in common.

    Args:
        height (int): Of a scene, px.
        width (int): Of a scene, px.
        counts (tuple[int, int]): Fewest and most digits of a scene.
        sizes (tuple[int, int]): Least and largest extent of a digit's ink, px.
        extent (Callable): ``max`` if ``sizes`` are of the longer side, ``min`` if of the
            shorter one.
    """

    height: int
    width: int
    counts: tuple[int, int]
    sizes: tuple[int, int]
    extent: Callable


@dataclass(frozen=True)
class Scene:
    """Image (H, W, 3), mask (H, W) of digits or BACKGROUND, and each digit with its box.

    A box is (left, top, right, bottom), right and bottom exclusive, tight around the ink.
    """

    image: np.ndarray
    mask: np.ndarray
    objects: list[tuple[int, tuple[int, int, int, int]]]


def enlarge(digit: np.ndarray, cell: int) -> np.ndarray:
    """Scale an 8×8 digit to a cell of some px, cropped to the ink: what is over 0.5."""
    image = Image.fromarray(digit.astype(np.float32))
    grey = np.asarray(image.resize((cell, cell), Resampling.BICUBIC))
    rows, columns = (np.flatnonzero((grey > 0.5).any(axis)) for axis in (1, 0))
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def fit(digit: np.ndarray, form: Form, rng: np.random.Generator) -> np.ndarray:
    """Scale a digit to one of the form's sizes, in proportion."""
    size = rng.uniform(*form.sizes)
    measured = form.extent(enlarge(digit, REFERENCE).shape)
    return enlarge(digit, round(REFERENCE * size / measured))


def drift(form: Form, limits, px: int, channels: int, rng) -> np.ndarray:
    """Noise (H, W, channels) that changes smoothly over some px."""
    shape = (channels, form.height // px + 1, form.width // px + 1)
    coarse = rng.uniform(*limits, shape).astype(np.float32)
    size = (form.width, form.height)
    smooth = [Image.fromarray(c).resize(size, Resampling.BICUBIC) for c in coarse]
    return np.stack(smooth, axis=-1)


def texture(form: Form, rng: np.random.Generator) -> np.ndarray:
    """Drifting colours with stripes over them: (H, W, 3), 0…255."""
    grey = drift(form, BRIGHTNESS, DRIFTS[0], 1, rng)
    colours = drift(form, COLOURS, DRIFTS[1], 3, rng)
    y, x = np.mgrid[: form.height, : form.width]
    angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    wave = np.sin(2 * np.pi * along / rng.uniform(*PERIODS) + phase)
    stripes = wave[..., None] * rng.uniform(-STRIPES, STRIPES, 3)
    return np.clip(grey + colours + stripes, 0, 255)


def ink_colour(under: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Of some random colours, the one farthest from all pixels (H, W, 3) under it."""
    grey = rng.uniform(0, 255, (INKS, 1))
    inks = np.clip(grey + rng.uniform(*INK_COLOURS, (INKS, 3)), 0, 255)
    distances = np.linalg.norm(under[..., None, :] - inks, axis=-1)  # H, W, INKS
    return inks[distances.min(axis=(0, 1)).argmax()]


def free_corners(shape: tuple[int, int], form: Form, boxes: list) -> np.ndarray:
    """Top and left, (N, 2), of all places for ink of a shape where it meets no box."""
    height, width = shape
    free = np.ones(
        (max(form.height - height + 1, 0), max(form.width - width + 1, 0)), dtype=bool
    )
    for left, top, right, bottom in boxes:
        rows = slice(max(top - GAP - height + 1, 0), bottom + GAP)
        columns = slice(max(left - GAP - width + 1, 0), right + GAP)
        free[rows, columns] = False
    return np.argwhere(free)


def draw_digit(canvas, mask, label: int, ink: np.ndarray, box, rng) -> None:
    """Paint ink over the canvas in a colour of its own, and its label into the mask."""
    left, top, right, bottom = box
    under = canvas[top:bottom, left:right]
    opacity = np.clip(3 * ink - 1, 0, 1)[..., None]  # a half at the mask's edge
    under += opacity * (ink_colour(under, rng) - under)
    mask[top:bottom, left:right][ink > 0.5] = label


def draw_scene(digits: Digits, form: Form, rng: np.random.Generator) -> Scene:
    """Draw some of the digits on a texture.

    A digit that finds no place is left out and another one tried.
    """
    canvas = texture(form, rng)
    mask = np.full(canvas.shape[:2], BACKGROUND, dtype=np.uint8)
    objects = []
    wanted = rng.integers(*form.counts, endpoint=True)
    for i in rng.choice(len(digits.labels), DRAWS, replace=False):
        if len(objects) == wanted:
            break
        label = int(digits.labels[i])
        ink = fit(digits.images[i], form, rng)
        corners = free_corners(ink.shape, form, [box for _, box in objects])
        if len(corners):
            top, left = map(int, rng.choice(corners))
            box = (left, top, left + ink.shape[1], top + ink.shape[0])
            draw_digit(canvas, mask, label, ink, box, rng)
            objects.append((label, box))
    noisy = canvas + rng.normal(0, NOISE, canvas.shape)
    return Scene(noisy.round().clip(0, 255).astype(np.uint8), mask, objects)
