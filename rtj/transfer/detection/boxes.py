"""Boxes (x1, y1, x2, y2) in pixels, and offsets from one box to another.

Coordinates are continuous: pixel i reaches from i to i + 1, and a box is x2 - x1
wide. Pascal VOC's files count pixels from 1 and name the first and the last one, so
(xmin, ymin, xmax, ymax) is (xmin - 1, ymin - 1, xmax, ymax) here, and the overlap of
two such boxes is what the VOC devkit computes with its `+ 1`.

In the wild: torchvision and Detectron2 are continuous. gluon-cv subtracts 1 from all
four numbers and computes overlaps in training without the `+ 1`, so that its objects
are one pixel narrower than here; Detectron (1) adds 1 throughout.
"""

import math

import jax
import jax.numpy as jnp

# What offsets are multiplied with; 1 / weight is gluon-cv's `stds`. The region
# proposal network's are (1, 1, 1, 1) and the head's (10, 10, 5, 5), which is
# (0.1, 0.1, 0.2, 0.2), in gluon-cv and torchvision alike.
Weights = tuple[float, float, float, float]
RPN_WEIGHTS: Weights = (1.0, 1.0, 1.0, 1.0)
HEAD_WEIGHTS: Weights = (10.0, 10.0, 5.0, 5.0)

# A box grows at most by this factor, so that exp() stays finite: 1000 pixels from a
# stride of 16 (Detectron, torchvision). gluon-cv stops at 4.14 on COCO, not on VOC.
MAX_LOG_GROWTH = math.log(1000 / 16)


def area(boxes: jax.Array) -> jax.Array:
    """(..., 4) to (...), square pixels; 0 if a side is not positive.

    It overflows float32 for sides above about 1e19.
    """
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def intersection(first: jax.Array, second: jax.Array) -> jax.Array:
    """Common area of each of (..., N, 4) with each of (..., M, 4): (..., N, M)."""
    low = jnp.maximum(first[..., :, None, :2], second[..., None, :, :2])
    high = jnp.minimum(first[..., :, None, 2:], second[..., None, :, 2:])
    return area(jnp.concatenate([low, high], axis=-1))


def iou(first: jax.Array, second: jax.Array) -> jax.Array:
    """Intersection over union of (..., N, 4) and (..., M, 4): (..., N, M) in [0, 1].

    Boxes without area overlap nothing, not even themselves, where torchvision gives
    NaN; both compare the same to any threshold.
    """
    common = intersection(first, second)
    union = area(first)[..., :, None] + area(second)[..., None, :] - common
    return _ratio(common, union)


def coverage(first: jax.Array, second: jax.Array) -> jax.Array:
    """How much of each of (..., N, 4) lies in each of (..., M, 4): (..., N, M)."""
    return _ratio(intersection(first, second), area(first)[..., :, None])


def clip(
    boxes: jax.Array, height: jax.Array | int, width: jax.Array | int
) -> jax.Array:
    """(..., 4) cut at the border of an image of height x width pixels."""
    limit = jnp.stack([width, height, width, height]).astype(boxes.dtype)
    return jnp.clip(boxes, 0, limit)


def has_area(boxes: jax.Array) -> jax.Array:
    """(..., 4) to (...) bool: x2 > x1 and y2 > y1."""
    return jnp.all(boxes[..., 2:] > boxes[..., :2], axis=-1)


def encode(boxes: jax.Array, anchors: jax.Array, weights: Weights) -> jax.Array:
    """Offsets (..., 4) that lead from anchors (..., 4) to boxes (..., 4).

    They are (dx, dy, dw, dh): the centre's move in units of the anchor's sides and the
    logarithm of the sides' growth, times `weights` (Ren et al., equation 2;
    torchvision's `BoxCoder`). Where box or anchor has no area they are 0, not NaN.
    """
    real = (has_area(boxes) & has_area(anchors))[..., None]
    sides = jnp.where(real, boxes[..., 2:] - boxes[..., :2], 1)
    anchor_sides = jnp.where(real, anchors[..., 2:] - anchors[..., :2], 1)
    move = (_centers(boxes) - _centers(anchors)) / anchor_sides
    growth = jnp.log(sides / anchor_sides)
    offsets = jnp.concatenate([move, growth], axis=-1) * jnp.asarray(weights)
    return jnp.where(real, offsets, 0)


def decode(offsets: jax.Array, anchors: jax.Array, weights: Weights) -> jax.Array:
    """Boxes (..., 4) at `offsets` (..., 4) from anchors (..., 4); undoes `encode`.

    Growth stops at a factor of exp(MAX_LOG_GROWTH), and with it the gradient.
    """
    offsets = offsets / jnp.asarray(weights)
    anchor_sides = anchors[..., 2:] - anchors[..., :2]
    centers = offsets[..., :2] * anchor_sides + _centers(anchors)
    half = jnp.exp(jnp.minimum(offsets[..., 2:], MAX_LOG_GROWTH)) * anchor_sides / 2
    return jnp.concatenate([centers - half, centers + half], axis=-1)


def _centers(boxes: jax.Array) -> jax.Array:
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def _ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
    """part / whole, and 0 with a gradient of 0 where the part is 0."""
    some = part > 0
    return jnp.where(some, part / jnp.where(some, whole, 1), 0)
