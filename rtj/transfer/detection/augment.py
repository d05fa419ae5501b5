"""Training images on the device: mirrored with p = 0.5, normalised, padding at 0.

gluon-cv's `FasterRCNNDefaultTrainTransform` after its resizing on the host; that does
nothing else either. Padding is the mean colour, 0 after the normalisation.
"""

import jax
import jax.numpy as jnp

from rtj.data.augment import normalize


def normalize_valid(
    images: jax.Array,
    sizes: jax.Array,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> jax.Array:
    """`normalize` of (B, H, W, 3), and 0 outside each image's `sizes` (B, 2) int32."""
    height, width = sizes[:, 0, None], sizes[:, 1, None]
    rows = jnp.arange(images.shape[1]) < height
    columns = jnp.arange(images.shape[2]) < width
    valid = (rows[:, :, None] & columns[:, None])[..., None]
    return jnp.where(valid, normalize(images, mean, std), 0)


def mirror_image(image: jax.Array, width: jax.Array | int) -> jax.Array:
    """(H, W, C), its first `width` columns in reverse; padding stays where it is."""
    column = jnp.arange(image.shape[1])
    return image[:, jnp.where(column < width, width - 1 - column, column)]


def mirror_boxes(boxes: jax.Array, width: jax.Array | int) -> jax.Array:
    """(..., 4) where `mirror_image` puts what they contain."""
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    return jnp.stack([width - x2, y1, width - x1, y2], axis=-1)
