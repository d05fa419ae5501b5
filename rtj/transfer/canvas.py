"""Images in the upper left of a canvas that they do not fill."""

import jax
import jax.numpy as jnp

from rtj.data.augment import normalize


def inside_images(sizes: jax.Array, canvas: tuple[int, ...]) -> jax.Array:
    """(B, 2) heights and widths to (B, *canvas) bool: which pixels are an image's."""
    rows = jnp.arange(canvas[0]) < sizes[:, :1]
    columns = jnp.arange(canvas[1]) < sizes[:, 1:]
    return rows[:, :, None] & columns[:, None, :]


def normalize_valid(
    images: jax.Array,
    sizes: jax.Array,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> jax.Array:
    """`normalize` of (B, H, W, 3), and 0 outside each image's `sizes` (B, 2) int32."""
    inside = inside_images(sizes, images.shape[1:3])
    return jnp.where(inside[..., None], normalize(images, mean, std), 0)
