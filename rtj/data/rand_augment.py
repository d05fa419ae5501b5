"""RandAugment (Cubuk et al. 2019, arXiv 1909.13719), beyond He et al.; pure JAX.

Each image goes through a few operations drawn evenly, with replacement, from the
paper's 14, all at one strength m = magnitude / 10, in float32 on the 0-255 scale:

| operation | at strength m |
|---|---|
| identity | |
| autocontrast, equalize | each channel's range, or histogram, stretched to 0-255 |
| solarize | values from 256 (1 - m) on are inverted |
| posterize | 8 - round(4 m) bits are kept |
| color, contrast, brightness, sharpness | blended by 1 ± 0.9 m with the grey image, |
| | its mean, black, or the 3 x 3 smoothed image |
| rotate | by ± 30 m degrees about the centre |
| shear_x, shear_y | by ± 0.3 m about the top left corner |
| translate_x, translate_y | by ± 0.45 m of the side |

Signs are fair coins. What a rotation brings in from outside has the colour `fill`;
resampling is bilinear. Every operation is Pillow's but for its rounding to uint8.

In the wild: timm's `rand-m9-n2` draws from 15 (inversion and adding below a threshold
instead of identity), applies each with probability 1/2, and, like Google's TPU code,
weakens solarize and posterize as the magnitude grows and blends one way only (its
`inc1` does neither). Google's code resamples by the nearest neighbour.

Cost: under vmap a `lax.switch` computes all branches. Here operations share their
work (one blend, one histogram, one resampling), and each costs about 2.6 ms an image
of 224 x 224 on 2 CPU cores, whichever it is; the paper's colour jitter costs 1.3 ms.
Two operations take 5.1 ms, 8.1 ms with a switch.
"""

import math

import jax
import jax.numpy as jnp

from rtj.data.color_jitter import grey

_BLENDS = ("identity", "color", "contrast", "brightness", "sharpness")
_TONES = ("autocontrast", "equalize", "solarize", "posterize")
_MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = _BLENDS + _TONES + _MOVES


def rand_augment(
    image: jax.Array,
    key: jax.Array,
    *,
    num_ops: int,
    magnitude: float,
    fill: tuple[float, ...],
) -> jax.Array:
    """`num_ops` random operations of `magnitude` (0 to 10), one after the other.

    (H, W, 3) float32 in [0, 255] -> the same; `fill` is an RGB colour.
    """
    for number in range(num_ops):
        which, coin = jax.random.split(jax.random.fold_in(key, number))
        operation = jax.random.randint(which, (), 0, len(OPERATIONS))
        sign = jnp.where(jax.random.bernoulli(coin), 1.0, -1.0)
        image = apply_operation(image, operation, sign, magnitude, fill)
    return image


def apply_operation(
    image: jax.Array,
    operation: jax.Array,
    sign: jax.Array,
    magnitude: float,
    fill: tuple[float, ...],
) -> jax.Array:
    """OPERATIONS[operation] with a given sign, 1 or -1; see `rand_augment`."""
    strength = magnitude / 10
    blended = _blend(image, operation, 1 + 0.9 * strength * sign)
    toned = _tone(image, operation - len(_BLENDS), strength)
    move = operation - len(_BLENDS) - len(_TONES)
    matrix = _matrix(move, strength * sign, *image.shape[:2])
    moved = affine(image, matrix, fill)
    family = (operation >= len(_BLENDS)) * 1 + (move >= 0) * 1
    return jax.lax.select_n(family, blended, toned, moved)


def _choose(which: jax.Array, *cases: jax.Array) -> jax.Array:
    """cases[which]; any of them where `which` is of another family."""
    return jax.lax.select_n(jnp.clip(which, 0, len(cases) - 1), *cases)


def _blend(image: jax.Array, operation: jax.Array, factor: jax.Array) -> jax.Array:
    """factor * image + (1 - factor) * target, clipped; identity is factor 1."""
    luma, factor = grey(image), jnp.where(operation == 0, 1.0, factor)
    target = jnp.where(operation == _BLENDS.index("contrast"), luma.mean(), luma)
    target = jnp.where(operation == _BLENDS.index("brightness"), 0.0, target)
    smoothed = operation == _BLENDS.index("sharpness")
    target = jnp.where(smoothed, smooth(image), target)
    return jnp.clip(factor * image + (1 - factor) * target, 0.0, 255.0)


def smooth(image: jax.Array) -> jax.Array:
    """The mean over 3 x 3 pixels in which the middle one counts 5 times.

    The outermost pixels stay as they are, as Pillow leaves them.
    """
    height, width, _ = image.shape
    rows = image[: height - 2] + image[1 : height - 1] + image[2:]
    box = rows[:, : width - 2] + rows[:, 1 : width - 1] + rows[:, 2:]
    return image.at[1:-1, 1:-1].set((box + 4 * image[1:-1, 1:-1]) / 13)


def _tone(image: jax.Array, tone: jax.Array, strength: float) -> jax.Array:
    bin_width = 2.0 ** round(4 * strength)
    return _choose(
        tone,
        autocontrast(image),
        equalize(image),
        jnp.where(image < 256 * (1 - strength), image, 255 - image),
        jnp.floor(image / bin_width) * bin_width,
    )


def autocontrast(image: jax.Array) -> jax.Array:
    """Each channel's least value to 0 and its largest to 255; a flat one stays."""
    low = image.min(axis=(0, 1))
    spread = image.max(axis=(0, 1)) - low
    scaled = (image - low) * (255 / jnp.where(spread > 0, spread, 1))
    return jnp.clip(jnp.where(spread > 0, scaled, image), 0.0, 255.0)


def equalize(image: jax.Array) -> jax.Array:
    """Histogram equalisation of each channel, to Pillow's integer arithmetic.

    Values are rounded to whole levels first.
    """

    def channel(levels: jax.Array) -> jax.Array:
        # By scatter: 0.6 ms for three channels; by a product of one-hot matrices 7 ms,
        # by sorting 23 ms.
        counts = jnp.zeros(256, jnp.int32).at[levels.ravel()].add(1)
        last = jnp.max(jnp.where(counts > 0, jnp.arange(256), 0))
        step = (levels.size - counts[last]) // 255
        below = jnp.cumsum(counts) - counts
        table = (step // 2 + below) // jnp.maximum(step, 1)
        table = jnp.where(step > 0, jnp.minimum(table, 255), jnp.arange(256))
        return table[levels]

    levels = jnp.clip(jnp.round(image), 0, 255).astype(jnp.int32)
    return jax.vmap(channel, -1, -1)(levels).astype(jnp.float32)


def _matrix(move: jax.Array, amount: jax.Array, height: int, width: int) -> jax.Array:
    """Of the map from output to input pixels, `amount` in [-1, 1]; see `affine`."""
    one, zero = jnp.ones_like(amount), jnp.zeros_like(amount)
    angle = -math.radians(30) * amount
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    x, y = width / 2, height / 2
    centre_x = x - cosine * x - sine * y
    centre_y = y + sine * x - cosine * y
    shear, shift_x, shift_y = (
        0.3 * amount,
        0.45 * amount * width,
        0.45 * amount * height,
    )
    return _choose(
        move,
        jnp.stack([cosine, sine, centre_x, -sine, cosine, centre_y]),
        jnp.stack([one, shear, zero, zero, one, zero]),
        jnp.stack([one, zero, zero, shear, one, zero]),
        jnp.stack([one, zero, shift_x, zero, one, zero]),
        jnp.stack([one, zero, zero, zero, one, shift_y]),
    )


def affine(image: jax.Array, matrix: jax.Array, fill: tuple[float, ...]) -> jax.Array:
    """Bilinear resampling at (a x + b y + c, d x + e y + f), in Pillow's convention.

    Args:
        image: (H, W, C) float32.
        matrix: (a, b, c, d, e, f), x to the right, y downwards, the centre of the
            first pixel at (1/2, 1/2).
        fill: C values, for what lies outside the image.
    """
    height, width, _ = image.shape
    y, x = jnp.mgrid[0:height, 0:width] + 0.5
    a, b, c, d, e, f = matrix
    u, v = a * x + b * y + c, d * x + e * y + f
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    left, top = jnp.floor(u - 0.5), jnp.floor(v - 0.5)
    right_part, lower_part = (u - 0.5 - left)[..., None], (v - 0.5 - top)[..., None]

    def pixels(rows: jax.Array, columns: jax.Array) -> jax.Array:
        rows = jnp.clip(rows, 0, height - 1).astype(jnp.int32)
        columns = jnp.clip(columns, 0, width - 1).astype(jnp.int32)
        return image[rows, columns]

    def row(rows: jax.Array) -> jax.Array:
        at_left, at_right = pixels(rows, left), pixels(rows, left + 1)
        return (1 - right_part) * at_left + right_part * at_right

    mixed = (1 - lower_part) * row(top) + lower_part * row(top + 1)
    return jnp.where(inside[..., None], mixed, jnp.asarray(fill, jnp.float32))
