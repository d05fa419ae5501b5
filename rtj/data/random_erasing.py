"""Random erasing (Zhong et al. 2017, arXiv 1708.04896), beyond He et al.; pure JAX.

With some probability one rectangle of a normalised image is overwritten: its area is
uniform in 2 % to 1/3 of the image's, its ratio of height to width log-uniform in 0.3
to 1/0.3, its place uniform among those where it lies inside. A rectangle that does
not fit is drawn again, ten times at most.

In the wild: the paper fills with one random colour a pixel in [0, 255] and draws the
ratio uniformly, which favours tall rectangles. timm draws it as here; `noise` is its
`pixel` mode, N(0, 1) in each channel of each pixel, `zero` its `const` mode, which
after normalisation is the mean colour.

Cost on 2 CPU cores: 1.3 ms an image of 224 x 224 with noise, under 0.1 ms with zero.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

Fill = Literal["noise", "zero"]

AREA = (0.02, 1 / 3)
RATIO = (0.3, 1 / 0.3)
_TRIES = 10


def random_erasing(
    image: jax.Array, key: jax.Array, probability: float, fill: Fill
) -> jax.Array:
    """Erases one rectangle of an (H, W, C) float32 image with `probability`."""
    coin_key, box_key, noise_key = jax.random.split(key, 3)
    box = erased_box(box_key, *image.shape[:2])
    erase = jax.random.bernoulli(coin_key, probability) & box[..., None]
    if fill == "zero":
        return jnp.where(erase, 0.0, image)
    return jnp.where(erase, jax.random.normal(noise_key, image.shape), image)


def erased_box(key: jax.Array, height: int, width: int) -> jax.Array:
    """(H, W) bool, True inside; all False if no try gave a rectangle that fits."""
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, (_TRIES,), minval=AREA[0], maxval=AREA[1])
    low, high = (math.log(ratio) for ratio in RATIO)
    ratio = jnp.exp(jax.random.uniform(ratio_key, (_TRIES,), minval=low, maxval=high))
    rows = jnp.round(jnp.sqrt(area * height * width * ratio))
    columns = jnp.round(jnp.sqrt(area * height * width / ratio))
    fits = (rows < height) & (columns < width)
    first = jnp.argmax(fits)
    place = jax.random.uniform(place_key, (2,))

    def inside(size: int, side: jax.Array, fraction: jax.Array) -> jax.Array:
        start = jnp.floor(fraction * (size - side + 1))
        line = jnp.arange(size)
        return (start <= line) & (line < start + side)

    row_range = inside(height, rows[first], place[0])
    column_range = inside(width, columns[first], place[1])
    return fits[first] & row_range[:, None] & column_range[None, :]
