"""Device-side augmentation, pure JAX, for use inside the jitted train step.

Paper section 2.1, after the crop: flip with p = 0.5; scale hue, saturation and
brightness by factors in [0.6, 1.4]; add PCA noise with coefficients from
N(0, 0.1); subtract the mean and divide by the standard deviation. All math is
float32 on the 0-255 scale, channels are RGB.

Clip policy: colour jitter ends in [0, 255] ('bcs' clips after each of its three
operations, as MXNet does by saturating to uint8); PCA noise is not clipped, since
the paper does not say so and float32 cannot wrap around.
"""

from typing import Literal

import jax
import jax.numpy as jnp

Jitter = Literal["none", "hsb", "bcs"]

# AlexNet's PCA of ImageNet's RGB pixels on the 0-255 scale, as in MXNet's and
# gluon-cv's lighting noise: 255 * (0.2175, 0.0188, 0.0045) to MXNet's rounding.
PCA_EIGENVALUES = (55.46, 4.794, 1.148)
# Rows are R, G, B; column j is the j-th eigenvector.
PCA_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
# ITU-R 601 luma, R G B. MXNet applies it to B G R data, so that its red and blue
# weights are exchanged; we do not copy that.
GREY_WEIGHTS = (0.299, 0.587, 0.114)

_FLIP, _COLOUR, _PCA = 0, 1, 2


def batch_keys(seed: int | jax.Array, step: jax.Array, index: jax.Array) -> jax.Array:
    """One PRNG key an example: fold_in(fold_in(key(seed), step), index), (B,).

    A key depends on no batch position, so an example is augmented alike on any
    number of devices and processes.
    """
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)


def normalize(
    images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]
) -> jax.Array:
    """(images - mean) / std in float32; mean and std are per channel, 0-255 scale."""
    return (images.astype(jnp.float32) - jnp.asarray(mean, jnp.float32)) / jnp.asarray(
        std, jnp.float32
    )


def augment(
    images: jax.Array,
    index: jax.Array,
    step: jax.Array,
    *,
    seed: int | jax.Array,
    flip: bool,
    color_jitter: Jitter,
    jitter_strength: float = 0.4,
    pca_std: float = 0.1,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> jax.Array:
    """Augments and normalises one batch.

    Args:
      images: (B, H, W, 3) uint8, RGB.
      index: (B,) int32, dataset index of each example.
      step: int32 scalar, the global step (the same one on every device).
      seed: of the run.
      flip: mirror each image left-right with probability 1/2.
      color_jitter: 'hsb' (the paper), 'bcs' (gluon-cv), or 'none'.
      jitter_strength: s; factors are uniform in [1 - s, 1 + s].
      pca_std: standard deviation of the PCA coefficients; 0 turns the noise off.
      mean, std: per channel, 0-255 scale.

    Returns:
      (B, H, W, 3) float32. The same (seed, step, index) gives the same result.
    """
    if color_jitter not in ("none", "hsb", "bcs"):
        raise ValueError(f"color_jitter={color_jitter!r}: 'none', 'hsb' or 'bcs'")
    keys = batch_keys(seed, step, index)
    if flip:
        coins = jax.vmap(lambda k: jax.random.bernoulli(jax.random.fold_in(k, _FLIP)))
        images = jnp.where(
            coins(keys)[:, None, None, None], images[:, :, ::-1, :], images
        )
    images = images.astype(jnp.float32)
    if color_jitter != "none" and jitter_strength > 0:
        jitter = jitter_hsb if color_jitter == "hsb" else jitter_bcs
        colour_keys = jax.vmap(lambda k: jax.random.fold_in(k, _COLOUR))(keys)
        images = jax.vmap(jitter, (0, 0, None))(images, colour_keys, jitter_strength)
    if pca_std > 0:
        pca_keys = jax.vmap(lambda k: jax.random.fold_in(k, _PCA))(keys)
        noise = jax.vmap(pca_noise, (0, None))(pca_keys, pca_std)
        images = images + noise[:, None, None, :]
    return normalize(images, mean, std)


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
    weights = jnp.asarray(GREY_WEIGHTS, jnp.float32)
    for position in range(3):
        operation = order[position]
        # Not a dot product: on TPUs that would round its inputs to bfloat16.
        grey = jnp.sum(image * weights, axis=-1, keepdims=True)
        target = jnp.where(operation == 1, jnp.mean(grey), grey)
        target = jnp.where(operation == 0, 0.0, target)
        factor = factors[operation]
        image = jnp.clip(factor * image + (1.0 - factor) * target, 0.0, 255.0)
    return image


def pca_noise(key: jax.Array, pca_std: float) -> jax.Array:
    """One RGB offset, 0-255 scale: sum_j eigenvector_j eigenvalue_j alpha_j with
    alpha_j from N(0, pca_std). (3,) float32."""
    alpha = pca_std * jax.random.normal(key, (3,), jnp.float32)
    scaled = jnp.asarray(PCA_EIGENVALUES, jnp.float32) * alpha
    return jnp.sum(jnp.asarray(PCA_EIGENVECTORS, jnp.float32) * scaled, axis=-1)
