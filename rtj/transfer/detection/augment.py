"""Mirroring of training images and their boxes, on the device.

All that gluon-cv's `FasterRCNNDefaultTrainTransform` does beside resizing and
normalising.
"""

import jax
import jax.numpy as jnp


def mirror_image(image: jax.Array, width: jax.Array | int) -> jax.Array:
    """(H, W, C), its first `width` columns in reverse; padding stays where it is."""
    column = jnp.arange(image.shape[1])
    return image[:, jnp.where(column < width, width - 1 - column, column)]


def mirror_boxes(boxes: jax.Array, width: jax.Array | int) -> jax.Array:
    """(..., 4) where `mirror_image` puts what they contain."""
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    return jnp.stack([width - x2, y1, width - x1, y2], axis=-1)
