"""Device-side augmentation of images and masks together, pure JAX, static shapes.

gluon-cv's training transform: mirror with p = 0.5, resize so that the long side is
uniform in [0.5, 2] times a base size, pad on the right and below to the size of the
crop, take a random crop. The image is resized bilinearly and with antialiasing, as
by Pillow, the mask by the nearest pixel; padding is the mean colour (0 after the
normalisation) and the ignore label.

In the wild: gluon-cv pads with black, and its masks with 0, which is the background
in PASCAL VOC; earlier versions of it scale the short side and rotate by up to 10
degrees; it also blurs every other image, which is not done here.

Resizing and cropping are one step: the crop's pixels are looked up in the source, so
no array depends on the drawn scale.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rtj.data.augment import batch_keys, normalize


class Geometry(NamedTuple):
    """Where one crop lies; int32 scalars but for `mirror`, a bool.

    The image, mirrored or not, is resized to height x width; the crop's upper left
    corner is pixel (top, left) of that.
    """

    mirror: jax.Array
    height: jax.Array
    width: jax.Array
    top: jax.Array
    left: jax.Array


def augment(
    images: jax.Array,
    masks: jax.Array,
    index: jax.Array,
    step: jax.Array,
    *,
    seed: int | jax.Array,
    base: int,
    crop: int,
    scale: tuple[float, float] = (0.5, 2.0),
    flip: bool = True,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    ignore_label: int = 255,
) -> tuple[jax.Array, jax.Array]:
    """Augments and normalises one batch.

    Args:
        images: (B, H, W, 3) uint8, RGB.
        masks: (B, H, W), any integer dtype.
        index: (B,) int32, dataset index of each example.
        step: int32 scalar, the global step.
        seed: of the run.
        base: of the long side (520 in gluon-cv).
        crop: side of the result (480 in gluon-cv).
        scale: range of the long side in units of `base`.
        flip: mirror each image with probability 1/2.
        mean, std: per channel, 0-255 scale.
        ignore_label: of the padding.

    Returns:
        (B, crop, crop, 3) float32 and (B, crop, crop) int32. The same (seed, step,
        index) gives the same result on any number of devices.
    """
    draw = partial(
        draw_geometry,
        size=(images.shape[1], images.shape[2]),
        base=base,
        crop=crop,
        scale=scale,
        flip=flip,
    )
    geometry = jax.vmap(draw)(batch_keys(seed, step, index))
    take = partial(cut, crop=crop, ignore_label=ignore_label)
    return jax.vmap(take)(normalize(images, mean, std), masks, geometry)


def draw_geometry(
    key: jax.Array,
    *,
    size: tuple[int, int],
    base: int,
    crop: int,
    scale: tuple[float, float],
    flip: bool,
) -> Geometry:
    """Draws the geometry for an image of `size` (height, width)."""
    mirror_key, scale_key, place_key = jax.random.split(key, 3)
    low, high = scale
    long_side = base * jax.random.uniform(scale_key, minval=low, maxval=high)
    height, width = (
        jnp.maximum(jnp.round(side * long_side / max(size)), 1).astype(jnp.int32)
        for side in size
    )
    slack = jnp.maximum(jnp.stack([height, width]) - crop, 0)
    top, left = jax.random.randint(place_key, (2,), 0, slack + 1)
    mirror = jax.random.bernoulli(mirror_key) if flip else jnp.zeros((), bool)
    return Geometry(mirror, height, width, top, left)


def cut(
    image: jax.Array,
    mask: jax.Array,
    geometry: Geometry,
    *,
    crop: int,
    ignore_label: int,
) -> tuple[jax.Array, jax.Array]:
    """One crop of an image (H, W, C) float32, padded with 0, and of its mask (H, W).

    Returns (crop, crop, C) float32 and (crop, crop) int32.
    """
    mirror, height, width, top, left = geometry
    image = jnp.where(mirror, image[:, ::-1], image)
    mask = jnp.where(mirror, mask[:, ::-1], mask).astype(jnp.int32)
    rows, row_inside = _nearest(image.shape[0], height, top, crop)
    columns, column_inside = _nearest(image.shape[1], width, left, crop)
    inside = row_inside[:, None] & column_inside
    resized = jax.image.scale_and_translate(
        image,
        (crop, crop, image.shape[2]),
        (0, 1),
        jnp.stack([height / image.shape[0], width / image.shape[1]]),
        -jnp.stack([top, left]).astype(jnp.float32),
        "linear",
        antialias=True,
    )
    return (
        jnp.where(inside[..., None], resized, 0),
        jnp.where(inside, mask[rows][:, columns], ignore_label),
    )


def _nearest(
    source: int, resized: jax.Array, start: jax.Array, crop: int
) -> tuple[jax.Array, jax.Array]:
    """The source pixel under each pixel of the crop, and whether there is one.

    In integers, so that a centre that falls on the border of two source pixels, as all
    do at half the size, takes the one on the right on every device. Pillow adds up
    floats and takes now this one, now that.
    """
    places = start + jnp.arange(crop)
    pixels = (2 * places + 1) * source // (2 * resized)
    return jnp.minimum(pixels, source - 1), places < resized
