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
no array depends on the drawn scale. Images of different sizes come on canvases of one
size, each in the upper left; nothing else of a canvas is looked at.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rtj.data.augment import batch_keys, normalize
from rtj.transfer.segmentation.nearest import source_pixels


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
    sizes: jax.Array,
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
        sizes: (B, 2) int32, height and width of each image on its canvas, 1 or more.
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
    draw = partial(draw_geometry, base=base, crop=crop, scale=scale, flip=flip)
    geometry = jax.vmap(draw)(batch_keys(seed, step, index), sizes)
    take = partial(cut, crop=crop, ignore_label=ignore_label)
    return jax.vmap(take)(normalize(images, mean, std), masks, sizes, geometry)


def draw_geometry(
    key: jax.Array,
    size: jax.Array,
    *,
    base: int,
    crop: int,
    scale: tuple[float, float],
    flip: bool,
) -> Geometry:
    """Draws the geometry for an image of `size` (height, width), int32 (2,)."""
    mirror_key, scale_key, place_key = jax.random.split(key, 3)
    low, high = scale
    long_side = base * jax.random.uniform(scale_key, minval=low, maxval=high)
    resized = jnp.round(size * long_side / jnp.max(size))
    resized = jnp.maximum(resized, 1).astype(jnp.int32)
    height, width = resized
    slack = jnp.maximum(resized - crop, 0)
    top, left = jax.random.randint(place_key, (2,), 0, slack + 1)
    mirror = jax.random.bernoulli(mirror_key) if flip else jnp.zeros((), bool)
    return Geometry(mirror, height, width, top, left)


def cut(
    canvas: jax.Array,
    mask: jax.Array,
    size: jax.Array,
    geometry: Geometry,
    *,
    crop: int,
    ignore_label: int,
) -> tuple[jax.Array, jax.Array]:
    """One crop of an image, padded with 0, and of its mask.

    Args:
        canvas: (H, W, C) float32, the image in the upper left.
        mask: (H, W), any integer dtype, likewise.
        size: int32 (2,), the image's height and width.

    Returns:
        (crop, crop, C) float32 and (crop, crop) int32.
    """
    mirror, height, width, top, left = geometry
    rows, row_inside = _pixels(size[0], height, top, crop)
    columns, column_inside = _pixels(size[1], width, left, crop)
    columns = jnp.where(mirror, size[1] - 1 - columns, columns)
    inside = row_inside[:, None] & column_inside
    # Mirrored, the image lies in the upper right.
    mirrored = jnp.roll(canvas[:, ::-1], size[1] - canvas.shape[1], axis=1)
    scale = jnp.stack([height, width]) / size
    start = jnp.stack([top, left])
    resized = _resize(jnp.where(mirror, mirrored, canvas), size, scale, start, crop)
    return (
        jnp.where(inside[..., None], resized, 0),
        jnp.where(inside, mask[rows][:, columns].astype(jnp.int32), ignore_label),
    )


def _resize(
    canvas: jax.Array, size: jax.Array, scale: jax.Array, start: jax.Array, crop: int
) -> jax.Array:
    """(crop, crop, C) pixels from `start` on of the image resized by `scale`.

    JAX divides the weights of a target pixel by their sum over the canvas. Dividing by
    what of them falls on the image leaves the weights of the image alone.
    """

    resample = partial(jax.image.scale_and_translate, method="linear", antialias=True)
    translation = -start.astype(jnp.float32)
    rows = jnp.arange(canvas.shape[0]) < size[0]
    columns = jnp.arange(canvas.shape[1]) < size[1]
    image = jnp.where((rows[:, None] & columns)[..., None], canvas, 0)
    shape = (crop, crop, canvas.shape[2])
    resized = resample(image, shape, (0, 1), scale, translation)
    down, across = (
        resample(side.astype(canvas.dtype), (crop,), (0,), scale[k], translation[k])
        for k, side in ((slice(0, 1), rows), (slice(1, 2), columns))
    )
    weight = (down[:, None] * across)[..., None]
    # Outside the image there may be none, and the caller takes nothing from there.
    return resized / jnp.where(weight > 0, weight, 1)


def _pixels(
    source: jax.Array, resized: jax.Array, start: jax.Array, crop: int
) -> tuple[jax.Array, jax.Array]:
    """The source pixel under each pixel of the crop, and whether there is one."""
    places = start + jnp.arange(crop)
    pixels = source_pixels(places, source, resized)
    return jnp.minimum(pixels, source - 1), places < resized
