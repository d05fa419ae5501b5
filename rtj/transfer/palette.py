"""A colour for each class, and the text colour that stands out from it."""

import math
from functools import cache

import numpy as np

Colour = tuple[int, int, int]

_COLOURS = 256


@cache
def palette() -> np.ndarray:
    """(256, 3) int64 RGB: each the colour of a grid that is furthest from all before
    it, so that the first few classes differ most."""
    steps = np.arange(0, 256, 17)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    # Greys look like parts of a photo, dark colours like its shadows.
    grid = grid[(np.ptp(grid, axis=1) > 85) & (grid.max(axis=1) > 119)]
    # The eye tells greens apart better than reds, and these better than blues.
    scaled = grid * np.array([1.4, 2.0, 1.0])
    chosen = [int(np.argmax(grid @ [2, -1, -1]))]
    gaps = np.full(len(grid), np.inf)
    while len(chosen) < _COLOURS:
        gaps = np.minimum(gaps, np.square(scaled - scaled[chosen[-1]]).sum(axis=1))
        chosen.append(int(np.argmax(gaps)))
    return grid[chosen]


def class_colour(label: int) -> Colour:
    """RGB, 0 to 255, of a class; those of classes 0 to 255 all differ."""
    red, green, blue = palette()[label % _COLOURS].tolist()
    return red, green, blue


def class_colours(labels: np.ndarray) -> np.ndarray:
    """`class_colour` of integers of any shape S, as (S, 3) int64."""
    return palette()[labels.astype(np.int64) % _COLOURS]


def text_colour(behind: Colour) -> Colour:
    """Black or white, whichever stands out from `behind`: by 4.58 to 1 or more.

    Contrast is WCAG's, (lighter + 0.05) / (darker + 0.05) of relative luminances.
    """
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (value / 255 for value in behind)
    ]
    luminance = float(np.dot(linear, [0.2126, 0.7152, 0.0722]))
    # Where the contrasts to black and to white are equal.
    return (0, 0, 0) if luminance + 0.05 > math.sqrt(0.05 * 1.05) else (255, 255, 255)
