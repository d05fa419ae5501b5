"""What one image asks of the network: which anchors and RoIs are trained, towards what.

No gradient passes here, so all of it is done in one place, an image at a time.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rtj.transfer.detection.anchors import inside_image
from rtj.transfer.detection.boxes import HEAD_WEIGHTS, RPN_WEIGHTS, encode
from rtj.transfer.detection.matching import HEAD_RULE, RPN_RULE, Truth, match
from rtj.transfer.detection.options import DetectionOptions
from rtj.transfer.detection.proposals import with_truth
from rtj.transfer.detection.rpn import RPNOutputs, propose_inside
from rtj.transfer.detection.sampling import sample


class AnchorTargets(NamedTuple):
    """Of S sampled anchors.

    Attributes:
        places: (S,) int32, indices into all maps' anchors, one map after the other.
        offsets: (S, 4) float32.
        positive, mask: (S,) bool, see `sampling.Sample`.
    """

    places: jax.Array
    offsets: jax.Array
    positive: jax.Array
    mask: jax.Array


class RoITargets(NamedTuple):
    """Of S sampled RoIs.

    Attributes:
        boxes: (S, 4) float32.
        offsets: (S, 4) float32.
        labels: (S,) int32, 0 for background, otherwise 1 + the class.
        mask: (S,) bool, False where the sample is short.
    """

    boxes: jax.Array
    offsets: jax.Array
    labels: jax.Array
    mask: jax.Array


def anchor_targets(
    anchors: Sequence[np.ndarray],
    size: jax.Array,
    truth: Truth,
    key: jax.Array,
    options: DetectionOptions,
) -> AnchorTargets:
    """A sample of the anchors that lie inside an image of `size` (2,) int32."""
    boxes = jnp.concatenate([jnp.asarray(each) for each in anchors])
    inside = inside_image(boxes, size[0], size[1])
    matches = match(boxes, inside, truth, RPN_RULE)
    places, positive, mask = sample(key, matches.kind, options.rpn_sampling)
    objects = truth.boxes[matches.matched[places]]
    offsets = encode(objects, boxes[places], RPN_WEIGHTS)
    return AnchorTargets(places, offsets, positive, mask)


def roi_targets(
    outputs: RPNOutputs,
    anchors: Sequence[np.ndarray],
    size: jax.Array,
    truth: Truth,
    key: jax.Array,
    options: DetectionOptions,
) -> RoITargets:
    """A sample of one image's proposals and of the objects' own boxes.

    `outputs` are (N,) and (N, 4) for each map, of this image alone.
    """
    proposals = propose_inside(*outputs, anchors, size, options.train_proposals)
    boxes, there = with_truth(proposals, truth)
    matches = match(boxes, there, truth, HEAD_RULE)
    places, positive, mask = sample(key, matches.kind, options.roi_sampling)
    boxes, matched = boxes[places], matches.matched[places]
    return RoITargets(
        boxes=jnp.where(mask[:, None], boxes, 0),
        offsets=encode(truth.boxes[matched], boxes, HEAD_WEIGHTS),
        labels=jnp.where(positive, 1 + truth.labels[matched], 0),
        mask=mask,
    )
