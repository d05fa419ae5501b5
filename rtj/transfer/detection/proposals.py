"""From the outputs of a region proposal network to the boxes it proposes.

Of each map the anchors with the best scores are taken, moved by their offsets, cut at
the image's border and dropped if a side is too short; non-maximum suppression, each map
for itself, leaves the best of all maps. No gradient passes through (the approximate
joint training of Ren et al., section 3.2).

In the wild: this is torchvision's order, which drops boxes of less than 0.001 pixels
and counts the limits of a pyramid by map before NMS and in total after it. gluon-cv
decodes all anchors and drops boxes of less than 16 pixels *before* it takes the best
scores, measures sides with a `+ 1`, and suppresses across maps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rtj.transfer.detection.boxes import RPN_WEIGHTS, Weights, clip, decode
from rtj.transfer.detection.matching import Truth
from rtj.transfer.detection.nms import nms


@dataclass(frozen=True)
class ProposalOptions:
    """How many boxes are proposed, and which.

    Attributes:
        before_nms: anchors of a map that are looked at.
        after_nms: boxes that are proposed in all.
        threshold: largest overlap (IoU) of two proposals of a map.
        min_size: shortest side in pixels.
        weights: of the offsets' encoding.
    """

    before_nms: int
    after_nms: int
    threshold: float = 0.7
    min_size: float = 16.0
    weights: Weights = RPN_WEIGHTS


TRAIN_PROPOSALS = ProposalOptions(before_nms=12000, after_nms=2000)
TEST_PROPOSALS = ProposalOptions(before_nms=6000, after_nms=300)


class Proposals(NamedTuple):
    """P boxes, best first.

    Attributes:
        boxes: (P, 4) float32, 0 where `mask` is False.
        logits: (P,) float32 scores, 0 where `mask` is False.
        mask: (P,) bool, True for the first so many.
    """

    boxes: jax.Array
    logits: jax.Array
    mask: jax.Array


def propose(
    logits: Sequence[jax.Array],
    offsets: Sequence[jax.Array],
    anchors: Sequence[jax.Array],
    height: jax.Array | int,
    width: jax.Array | int,
    options: ProposalOptions,
) -> Proposals:
    """Boxes for one image of height x width pixels, one item in each list a map.

    Args:
        logits: (N,) float32 each, scores of the anchors.
        offsets: (N, 4) float32 each, see `boxes.decode`.
        anchors: (N, 4) float32 each.
        height, width: the image's own where it is padded.
        options: see there.

    Returns:
        `options.after_nms` proposals.
    """
    best = [
        _best_of_map(*jax.lax.stop_gradient((score, offset)), anchor, options)
        for score, offset, anchor in zip(logits, offsets, anchors, strict=True)
    ]
    scores = jnp.concatenate([score for score, _ in best])
    boxes = clip(jnp.concatenate([box for _, box in best]), height, width)
    groups = jnp.concatenate(
        [jnp.full(score.shape, i, jnp.int32) for i, (score, _) in enumerate(best)]
    )
    kept = nms(
        boxes,
        scores,
        jnp.all(boxes[:, 2:] - boxes[:, :2] >= options.min_size, axis=-1),
        threshold=options.threshold,
        outputs=options.after_nms,
        groups=groups,
    )
    return Proposals(
        boxes=jnp.where(kept.mask[:, None], boxes[kept.places], 0),
        logits=jnp.where(kept.mask, scores[kept.places], 0),
        mask=kept.mask,
    )


def with_truth(proposals: Proposals, truth: Truth) -> tuple[jax.Array, jax.Array]:
    """Proposals and the wanted objects' own boxes: (P + G, 4), and their mask (P + G,).

    The head is trained on both in gluon-cv, torchvision and Detectron: the first
    proposals overlap no object well enough to be positive.
    """
    return (
        jnp.concatenate([proposals.boxes, truth.boxes]),
        jnp.concatenate([proposals.mask, truth.wanted]),
    )


def _best_of_map(
    logits: jax.Array, offsets: jax.Array, anchors: jax.Array, options: ProposalOptions
) -> tuple[jax.Array, jax.Array]:
    """Scores and boxes of a map's best anchors; of equals the lower index first."""
    count = min(options.before_nms, logits.shape[0])
    order = jnp.argsort(logits, descending=True, stable=True)[:count]
    boxes = decode(offsets[order], jnp.asarray(anchors)[order], options.weights)
    return logits[order], boxes
