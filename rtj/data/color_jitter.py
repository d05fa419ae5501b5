"""Colour jitter: the paper's of hue, saturation and brightness, and gluon-cv's.

Paper section 2.1: hue, saturation and brightness are scaled by factors in [0.6, 1.4].
Images are RGB, float32, 0 to 255. Clip policy: the result lies in [0, 255] ('bcs'
clips after each of its three operations, as MXNet does by saturating to uint8).
"""

from typing import Literal

import jax
import jax.numpy as jnp

Jitter = Literal["none", "hsb", "bcs"]

# ITU-R 601 luma, R G B. MXNet applies it to B G R data, so that its red and blue
# weights are exchanged; we do not copy that.
GREY_WEIGHTS = (0.299, 0.587, 0.114)


def grey(image: jax.Array) -> jax.Array:
    """Luma of (..., 3) RGB, (..., 1)."""
    # Not a dot product: on TPUs that would round its inputs to bfloat16.
    weights = jnp.asarray(GREY_WEIGHTS, jnp.float32)
    return jnp.sum(image * weights, axis=-1, keepdims=True)


def jitter_factors(key: jax.Array, strength: float) -> jax.Array:
    """Three independent factors, uniform in [1 - strength, 1 + strength]."""
    return jax.random.uniform(key, (3,), minval=1 - strength, maxval=1 + strength)


def jitter_hsb(image: jax.Array, key: jax.Array, strength: float) -> jax.Array:
    """The paper's jitter: scales hue, saturation and brightness (HSV's value).

    Hue is a fraction of a turn and wraps around; saturation and value are clipped
    to their ranges. (H, W, 3) float32 in [0, 255] -> the same.
    """
    return scale_hsb(image, *jitter_factors(key, strength))


def scale_hsb(
    image: jax.Array, hue: jax.Array, saturation: jax.Array, brightness: jax.Array
) -> jax.Array:
    """Multiplies H, S and V of (..., 3) RGB in [0, 255] by the three factors."""
    h, s, v = rgb_to_hsv(image)
    return hsv_to_rgb(
        (h * hue) % 1.0,
        jnp.clip(s * saturation, 0.0, 1.0),
        jnp.clip(v * brightness, 0.0, 255.0),
    )


def rgb_to_hsv(image: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(..., 3) RGB in [0, 255] -> hue in [0, 1), saturation in [0, 1], value in
    [0, 255]; hue and saturation of grey are 0, as in Python's colorsys."""
    r, g, b = image[..., 0], image[..., 1], image[..., 2]
    value = jnp.max(image, axis=-1)
    spread = value - jnp.min(image, axis=-1)
    safe = jnp.where(spread > 0, spread, 1.0)
    sector = jnp.where(
        value == r,
        (g - b) / safe,
        jnp.where(value == g, 2.0 + (b - r) / safe, 4.0 + (r - g) / safe),
    )
    saturation = spread / jnp.where(value > 0, value, 1.0)
    return (sector / 6.0) % 1.0, saturation, value


def hsv_to_rgb(h: jax.Array, s: jax.Array, v: jax.Array) -> jax.Array:
    """Inverse of `rgb_to_hsv`."""

    def channel(offset: float) -> jax.Array:
        k = (offset + h * 6.0) % 6.0
        return v - v * s * jnp.clip(jnp.minimum(k, 4.0 - k), 0.0, 1.0)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)


def jitter_bcs(image: jax.Array, key: jax.Array, strength: float) -> jax.Array:
    """gluon-cv's jitter: brightness, contrast, saturation in random order.

    Each blends the image with a target, x <- f x + (1 - f) target, and clips to
    [0, 255]; the targets are black, the image's mean grey, and its grey image.
    (H, W, 3) float32 in [0, 255] -> the same.
    """
    factor_key, order_key = jax.random.split(key)
    order = jax.random.permutation(order_key, 3)
    return blend_bcs(image, jitter_factors(factor_key, strength), order)


def blend_bcs(image: jax.Array, factors: jax.Array, order: jax.Array) -> jax.Array:
    """`jitter_bcs` with given (3,) factors of brightness, contrast, saturation and
    a given (3,) order of these operations (0, 1, 2)."""
    for position in range(3):
        operation = order[position]
        luma = grey(image)
        target = jnp.where(operation == 1, jnp.mean(luma), luma)
        target = jnp.where(operation == 0, 0.0, target)
        factor = factors[operation]
        image = jnp.clip(factor * image + (1.0 - factor) * target, 0.0, 255.0)
    return image
