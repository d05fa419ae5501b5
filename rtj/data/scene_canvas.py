"""What scenes are painted on: smooth random textures, and colours that stand out.

All arithmetic is in integers or element by element, so that a scene has the same
pixels on every machine; Pillow resizes in integers too.
"""

import numpy as np
from PIL import Image

# Numbers of the coarse grid (colour) and of the fine one (brightness), a side.
_COARSE, _FINE = 6, 24
_COARSE_SPREAD, _FINE_SPREAD = 35, 15
NUMBERS = 3 + 3 * _COARSE**2 + _FINE**2
CONTRAST = 90.0
# Rec. 601, in thousandths.
_LUMA = np.array([299, 587, 114])


def texture(numbers: np.ndarray, size: int) -> np.ndarray:
    """A texture from `NUMBERS` uniform numbers, uint8 (size, size, 3).

    A base colour in [55, 200], a grid of 6 x 6 colours up to 35 from it and one of
    24 x 24 brightnesses up to 15, each interpolated smoothly.
    """
    base, coarse, fine = np.split(numbers, [3, 3 + 3 * _COARSE**2])
    colours = (
        55 + 145 * base + _COARSE_SPREAD * (2 * coarse.reshape(_COARSE, _COARSE, 3) - 1)
    )
    lights = 2 * _FINE_SPREAD * fine.reshape(_FINE, _FINE)
    total = _smooth(colours, size).astype(np.int16)
    total += _smooth(lights, size)[..., None]
    total -= _FINE_SPREAD
    return np.clip(total, 0, 255).astype(np.uint8)


def _smooth(grid: np.ndarray, size: int) -> np.ndarray:
    image = Image.fromarray(grid.astype(np.uint8))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))


def luma(pixels: np.ndarray) -> float:
    """Mean brightness (Rec. 601) of uint8 (..., 3) pixels, 0 to 255."""
    total = pixels.reshape(-1, 3).sum(axis=0, dtype=np.int64)
    return int(total @ _LUMA) / (1000 * (pixels.size // 3))


def contrasting_colour(numbers: np.ndarray, background: float) -> np.ndarray:
    """A random colour at least `CONTRAST` brighter or darker than `background`.

    Args:
        numbers: 3 uniform numbers.
        background: brightness, 0 to 255.

    Returns:
        (3,) float64 in [0, 255]. A colour that is too near is mixed with white on a
        dark background and with black on a bright one, just as far as needed.
    """
    colour = 255 * numbers
    brightness = float(colour[0] * 299 + colour[1] * 587 + colour[2] * 114) / 1000
    if abs(brightness - background) >= CONTRAST:
        return colour
    bright = background < 128
    target = background + CONTRAST if bright else background - CONTRAST
    end = 255.0 if bright else 0.0
    return colour + (end - colour) * (target - brightness) / (end - brightness)
