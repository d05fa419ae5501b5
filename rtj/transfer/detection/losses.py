"""The four losses of Faster R-CNN, of one image's sampled boxes.

All are sums over an image's sample divided by the number of boxes in it, the box losses
too: a positive box weighs as much as a box of the classification, whatever the share of
positive ones (torchvision, and gluon-cv, whose devices hold one image each). The mean
over images is the caller's. An empty sample costs 0, as do box losses of a sample
without positive boxes; what a mask excludes has no gradient.

Smooth L1 with parameter beta is d^2 / (2 beta) below beta and |d| - beta / 2 above.
beta is 1/9 for anchors in gluon-cv and torchvision; for the head it is 1 in gluon-cv
(and in Fast R-CNN's paper) and 1/9 in torchvision.

In the wild: Ren et al.'s equation 1 divides the anchors' box loss by the number of
places (about 2400) and multiplies it by 10, which is about the same. gluon-cv weighs
the four losses equally, and so does torchvision.
"""

import jax
import jax.numpy as jnp
import optax

RPN_BETA = 1 / 9
HEAD_BETA = 1.0


def smooth_l1(difference: jax.Array, beta: float) -> jax.Array:
    """Of each element of any shape; beta > 0."""
    size = jnp.abs(difference)
    inner = jnp.minimum(size, beta)
    return inner * inner / (2 * beta) + size - inner


def rpn_losses(
    logits: jax.Array,
    offsets: jax.Array,
    targets: jax.Array,
    positive: jax.Array,
    mask: jax.Array,
    beta: float = RPN_BETA,
) -> tuple[jax.Array, jax.Array]:
    """Objectness and box loss of S sampled anchors, two float32 scalars.

    Args:
        logits: (S,) float32, of being an object.
        offsets: (S, 4) float32, predicted.
        targets: (S, 4) float32, `boxes.encode` of the matched objects; finite.
        positive: (S,) bool.
        mask: (S,) bool, False where the sample is short.
        beta: of smooth L1.
    """
    objectness = optax.sigmoid_binary_cross_entropy(
        logits, positive.astype(logits.dtype)
    )
    return (
        _per_box(objectness, mask, mask),
        _per_box(_box_loss(offsets, targets, beta), mask & positive, mask),
    )


def head_losses(
    logits: jax.Array,
    offsets: jax.Array,
    targets: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
    beta: float = HEAD_BETA,
) -> tuple[jax.Array, jax.Array]:
    """Class and box loss of S sampled proposals, two float32 scalars.

    Args:
        logits: (S, K + 1) float32, background first.
        offsets: (S, K, 4) float32, predicted for each class; only those of the
            label's class are trained.
        targets: (S, 4) float32, `boxes.encode` of the matched objects; finite.
        labels: (S,) int32, 0 for background, otherwise 1 + the object's class.
        mask: (S,) bool, False where the sample is short.
        beta: of smooth L1.
    """
    classes = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    own = jnp.maximum(labels - 1, 0)[:, None, None]
    own_offsets = jnp.take_along_axis(offsets, own, axis=1)[:, 0]
    return (
        _per_box(classes, mask, mask),
        _per_box(_box_loss(own_offsets, targets, beta), mask & (labels > 0), mask),
    )


def _box_loss(offsets: jax.Array, targets: jax.Array, beta: float) -> jax.Array:
    """(S, 4) to (S,), the sum over the four offsets."""
    return smooth_l1(offsets - targets, beta).sum(axis=-1)


def _per_box(losses: jax.Array, where: jax.Array, sampled: jax.Array) -> jax.Array:
    """Sum of (S,) losses where the mask says so, by the number of sampled boxes."""
    return jnp.where(where, losses, 0).sum() / jnp.maximum(sampled.sum(), 1)
