"""Device-side augmentation, pure JAX, for use inside the jitted train step.

Paper section 2.1, after the crop: flip with p = 0.5; scale hue, saturation and
brightness by factors in [0.6, 1.4]; add PCA noise with coefficients from
N(0, 0.1); subtract the mean and divide by the standard deviation. All math is
float32 on the 0-255 scale, channels are RGB.

PCA noise is not clipped, since the paper does not say so and float32 cannot wrap
around. Beyond the paper, and off unless asked for: RandAugment after the flip, random
erasing at the end.
"""

from functools import partial

import jax
import jax.numpy as jnp

from rtj.data.color_jitter import Jitter, jitter_bcs, jitter_hsb
from rtj.data.rand_augment import rand_augment
from rtj.data.random_erasing import Fill, random_erasing

# AlexNet's PCA of ImageNet's RGB pixels on the 0-255 scale, as in MXNet's and
# gluon-cv's lighting noise: 255 * (0.2175, 0.0188, 0.0045) to MXNet's rounding.
PCA_EIGENVALUES = (55.46, 4.794, 1.148)
# Rows are R, G, B; column j is the j-th eigenvector.
PCA_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)

_FLIP, _COLOUR, _PCA, _RAND_AUGMENT, _ERASING = range(5)


def batch_keys(
    seed: int | jax.Array,
    step: jax.Array,
    index: jax.Array,
    copy: jax.Array | None = None,
) -> jax.Array:
    """One PRNG key an example: fold_in(fold_in(key(seed), step), index), (B,).

    With `copy` (B,) int32, the number of an example's repetition, that is folded in
    last.
    A key depends on no batch position, so an example is augmented alike on any
    number of devices and processes.
    """
    key = jax.random.fold_in(jax.random.key(seed), step)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    return keys if copy is None else jax.vmap(jax.random.fold_in)(keys, copy)


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
    copy: jax.Array | None = None,
    flip: bool,
    rand_augment_ops: int = 0,
    rand_augment_magnitude: float = 9.0,
    color_jitter: Jitter,
    jitter_strength: float = 0.4,
    pca_std: float = 0.1,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    erasing: float = 0.0,
    erasing_fill: Fill = "noise",
) -> jax.Array:
    """Augments and normalises one batch, in the order of the arguments.

    Args:
      images: (B, H, W, 3) uint8, RGB.
      index: (B,) int32, dataset index of each example.
      step: int32 scalar, the global step (the same one on every device).
      seed: of the run.
      copy: (B,) int32, number of an example's repetition in the batch, if they are
        repeated.
      flip: mirror each image left-right with probability 1/2.
      rand_augment_ops, rand_augment_magnitude: see `rtj.data.rand_augment`; 0
        operations turn it off, `mean` fills what lies outside the image.
      color_jitter: 'hsb' (the paper), 'bcs' (gluon-cv), or 'none'.
      jitter_strength: s; factors are uniform in [1 - s, 1 + s].
      pca_std: standard deviation of the PCA coefficients; 0 turns the noise off.
      mean, std: per channel, 0-255 scale.
      erasing, erasing_fill: probability and filling of `rtj.data.random_erasing`.

    Returns:
      (B, H, W, 3) float32. The same (seed, step, index) gives the same result.
    """
    if color_jitter not in ("none", "hsb", "bcs"):
        raise ValueError(f"color_jitter={color_jitter!r}: 'none', 'hsb' or 'bcs'")
    keys = batch_keys(seed, step, index, copy)

    def stream(use: int) -> jax.Array:
        return jax.vmap(lambda key: jax.random.fold_in(key, use))(keys)

    if flip:
        coins = jax.vmap(jax.random.bernoulli)(stream(_FLIP))
        images = jnp.where(coins[:, None, None, None], images[:, :, ::-1, :], images)
    images = images.astype(jnp.float32)
    if rand_augment_ops > 0:
        operate = partial(
            rand_augment,
            num_ops=rand_augment_ops,
            magnitude=rand_augment_magnitude,
            fill=mean,
        )
        images = jax.vmap(operate)(images, stream(_RAND_AUGMENT))
    if color_jitter != "none" and jitter_strength > 0:
        jitter = jitter_hsb if color_jitter == "hsb" else jitter_bcs
        images = jax.vmap(jitter, (0, 0, None))(
            images, stream(_COLOUR), jitter_strength
        )
    if pca_std > 0:
        noise = jax.vmap(pca_noise, (0, None))(stream(_PCA), pca_std)
        images = images + noise[:, None, None, :]
    images = normalize(images, mean, std)
    if erasing > 0:
        erase = partial(random_erasing, probability=erasing, fill=erasing_fill)
        images = jax.vmap(erase)(images, stream(_ERASING))
    return images


def pca_noise(key: jax.Array, pca_std: float) -> jax.Array:
    """One RGB offset, 0-255 scale: sum_j eigenvector_j eigenvalue_j alpha_j with
    alpha_j from N(0, pca_std). (3,) float32."""
    alpha = pca_std * jax.random.normal(key, (3,), jnp.float32)
    scaled = jnp.asarray(PCA_EIGENVALUES, jnp.float32) * alpha
    return jnp.sum(jnp.asarray(PCA_EIGENVECTORS, jnp.float32) * scaled, axis=-1)
