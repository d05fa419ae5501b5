"""Cross-entropy of every pixel, with pixels that do not count.

The mean is over the counted pixels of the whole batch, like PyTorch's
`cross_entropy(ignore_index=...)`. Inside a jitted program over a mesh that is the
global batch, so the loss does not depend on the number of devices.

In the wild: gluon-cv divides by all pixels of an image, counted or not, so an image
with much padding weighs less; it ignores -1, torchvision and PASCAL VOC 255. The
auxiliary loss has weight 0.5 in gluon-cv's training script and in torchvision's, 0.2
as the default of gluon-cv's loss class, and 0.4 in PSPNet.
"""

import jax
import jax.numpy as jnp
import optax

from rtj.transfer.segmentation.fcn import Logits

AUX_WEIGHT = 0.5
IGNORE_LABEL = 255


def pixel_cross_entropy(
    logits: jax.Array, masks: jax.Array, *, ignore_label: int = IGNORE_LABEL
) -> jax.Array:
    """Mean cross-entropy over the pixels that count, a float32 scalar.

    Args:
        logits: (N, H, W, K), any float dtype; the loss is computed in float32.
        masks: (N, H, W), any integer dtype: 0 to K - 1, or `ignore_label`.
        ignore_label: of pixels without a truth; -1 and 255 are usual.

    Returns:
        0, with gradient 0, if no pixel counts; NaN if a label is neither a class nor
        `ignore_label`, so that a wrong label map does not pass as a good one.
    """
    labels = masks.astype(jnp.int32)
    counted = labels != ignore_label
    known = (labels >= 0) & (labels < logits.shape[-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.promote_types(jnp.float32, logits.dtype)),
        jnp.where(known, labels, 0),
    )
    losses = jnp.where(counted, jnp.where(known, losses, jnp.nan), 0)
    return losses.sum() / jnp.maximum(counted.sum(), 1)


def fcn_loss(
    logits: Logits,
    masks: jax.Array,
    *,
    ignore_label: int = IGNORE_LABEL,
    aux_weight: float = AUX_WEIGHT,
) -> jax.Array:
    """The head's loss plus `aux_weight` times the auxiliary head's, if there is one."""
    loss = pixel_cross_entropy(logits.out, masks, ignore_label=ignore_label)
    if logits.aux is None:
        return loss
    aux = pixel_cross_entropy(logits.aux, masks, ignore_label=ignore_label)
    return loss + aux_weight * aux
