"""The region proposal network: is there an object at each anchor, and where exactly?

Ren et al., section 3.1: a 3x3 convolution, ReLU, and two 1x1 convolutions, for scores
and for offsets; with a pyramid one network runs on all its maps (Lin et al. 2016,
arXiv 1612.03144, section 4.1). New layers start from N(0, 0.01) and biases of 0, as in
gluon-cv and torchvision.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike

from rtj.models.layers import conv
from rtj.transfer.detection.proposals import ProposalOptions, Proposals, propose


class RPNOutputs(NamedTuple):
    """One item a map, anchors in the order of `map_anchors`.

    Attributes:
        logits: (B, N) float32 each.
        offsets: (B, N, 4) float32 each.
    """

    logits: list[jax.Array]
    offsets: list[jax.Array]


class RegionProposalNetwork(nn.Module):
    """Runs on one map after the other with the same parameters.

    Attributes:
        channels: of the 3x3 convolution.
        anchors: at each place of a map.
        dtype: of the 3x3 convolution; the other two are float32.
    """

    channels: int
    anchors: int
    dtype: DTypeLike

    @nn.compact
    def __call__(self, maps: Sequence[jax.Array]) -> RPNOutputs:
        """Maps (B, h, w, C), any float dtype."""
        wide = jnp.promote_types(jnp.float32, self.dtype)
        hidden, scores, boxes = (
            conv(
                features,
                kernel,
                use_bias=True,
                dtype=dtype,
                kernel_init=nn.initializers.normal(0.01),
                name=name,
            )
            for features, kernel, dtype, name in (
                (self.channels, 3, self.dtype, "conv"),
                (self.anchors, 1, wide, "cls_logits"),
                (4 * self.anchors, 1, wide, "bbox_pred"),
            )
        )
        outputs = RPNOutputs([], [])
        for x in maps:
            x = nn.relu(hidden(x))
            outputs.logits.append(scores(x).reshape(len(x), -1))
            outputs.offsets.append(boxes(x).reshape(len(x), -1, 4))
        return outputs


def propose_inside(
    logits: Sequence[jax.Array],
    offsets: Sequence[jax.Array],
    anchors: Sequence[np.ndarray],
    size: jax.Array,
    options: ProposalOptions,
) -> Proposals:
    """`propose` for one image, from the anchors whose centre lies in it.

    So nothing that stands in the padding takes the place of a proposal, however far
    the image is padded. In the wild: torchvision and Detectron2 take all anchors of the
    padded canvas; gluon-cv has one image a device, without padding.

    Args:
        logits, offsets, anchors: see `propose`.
        size: (2,) int32, height and width of the image.
        options: see `propose`.
    """
    height, width = size[0], size[1]
    inside = [
        ((boxes[:, :2] + boxes[:, 2:]) / 2 < jnp.stack([width, height])).all(axis=-1)
        for boxes in anchors
    ]
    scores = [
        jnp.where(there, score, -jnp.inf)
        for there, score in zip(inside, logits, strict=True)
    ]
    boxes = [jnp.asarray(each) for each in anchors]
    found = propose(scores, offsets, boxes, height, width, options)
    mask = found.mask & (found.logits > -jnp.inf)
    return Proposals(
        boxes=jnp.where(mask[:, None], found.boxes, 0),
        logits=jnp.where(mask, found.logits, 0),
        mask=mask,
    )
