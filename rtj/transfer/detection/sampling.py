"""A random sample of fixed size with a bounded share of positive boxes.

Ren et al. train on 256 anchors of an image, at most half of them positive, and Fast
R-CNN on 128 proposals ("RoIs"), at most a quarter positive. Negative boxes fill what
positive ones leave; if there are too few of those too, the sample is shorter, and its
mask says so. Every subset of the allowed size is equally likely.

In the wild: torchvision does the same, and 512 proposals. gluon-cv's head fills up with
positive proposals beyond their share where negative ones are lacking.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rtj.transfer.detection.matching import NEGATIVE, POSITIVE


class Sampling(NamedTuple):
    """Boxes of an image, and the largest share of them that is positive."""

    size: int
    positive_share: float


RPN_SAMPLING = Sampling(256, 0.5)
HEAD_SAMPLING = Sampling(128, 0.25)


class Sample(NamedTuple):
    """Chosen boxes, first the positive ones, then the negative ones.

    Attributes:
        places: (size,) int32, indices into the boxes; 0 where `mask` is False.
        positive: (size,) bool.
        mask: (size,) bool, True for the first so many.
    """

    places: jax.Array
    positive: jax.Array
    mask: jax.Array


def example_keys(key: jax.Array, step: jax.Array, index: jax.Array) -> jax.Array:
    """(B,) keys, of the run's `key`, the step and each example's index (B,) alone.

    The anchors' and the proposals' samples need a `key` each.
    """
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, step), index)


def sample(key: jax.Array, kind: jax.Array, how: Sampling) -> Sample:
    """Draws from boxes of `kind` (N,) int32, see `Matches`; ignored ones are not drawn.

    The draw depends on the key, on N and on `kind`.
    """
    # 31 random bits; of equal draws the lower index comes first.
    draw = (jax.random.bits(key, kind.shape, jnp.uint32) >> 1).astype(jnp.int32)
    most = int(how.size * how.positive_share)
    positive, positives = _first(jnp.where(kind == POSITIVE, draw, -1), most)
    negative, negatives = _first(jnp.where(kind == NEGATIVE, draw, -1), how.size)
    slot = jnp.arange(how.size)
    is_positive = slot < positives
    mask = slot < positives + negatives
    places = jnp.where(
        is_positive,
        positive.take(slot, mode="clip") if most else 0,
        negative.take(slot - positives, mode="clip"),
    )
    return Sample(jnp.where(mask, places, 0), is_positive, mask)


def _first(draw: jax.Array, most: int) -> tuple[jax.Array, jax.Array]:
    """Up to `most` places with the largest draws, and how many are not -1."""
    values, index = jax.lax.top_k(draw, min(most, draw.shape[0]))
    return index.astype(jnp.int32), (values >= 0).sum(dtype=jnp.int32)
