"""Which object a box answers for: anchors and proposals against the ground truth.

A box is positive if its largest overlap (IoU) with an object reaches a threshold,
negative if it stays below another, and ignored in between. For anchors (Ren et al.,
section 3.1.2) the box or boxes that overlap an object most are positive too, however
little that is, so that no object goes without. Every positive box answers for the
object that *it* overlaps most, of equals the first one.

Objects marked `ignored` (VOC's difficult ones, COCO's crowds) have no positive boxes,
and a box with half of its area or more inside one is not negative either: what it shows
is neither an object to find nor background (mmdetection's `ignore_iof_thr`).

In the wild: gluon-cv makes an object's best box negative after all if it overlaps less
than the negative threshold; torchvision keeps it, and makes *every* box positive that
overlaps nothing where an object is overlapped by nothing. gluon-cv trains on difficult
objects as on others: leave `ignored` False for its recipe. It and torchvision ignore
padded proposals, as the mask of candidates does here; torchvision's proposals that
match nothing, and gluon-cv's, are negative down to an overlap of 0, Fast R-CNN's were
down to 0.1.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rtj.transfer.detection.boxes import coverage, iou

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1

# Two compiled forms of the same IoU may differ in the last bits.
_EQUAL = 1e-6


class Rule(NamedTuple):
    """How overlaps are judged.

    Attributes:
        positive: boxes with at least this overlap are positive.
        negative: boxes with less than this are negative.
        best_too: the best boxes of every object are positive.
        ignored_part: share of a box inside an ignored object that makes it ignored.
    """

    positive: float
    negative: float
    best_too: bool
    ignored_part: float = 0.5


RPN_RULE = Rule(positive=0.7, negative=0.3, best_too=True)
HEAD_RULE = Rule(positive=0.5, negative=0.5, best_too=False)


class Truth(NamedTuple):
    """An image's objects, padded to a fixed number G >= 1.

    Attributes:
        boxes: (G, 4) float32.
        labels: (G,) int32, classes from 0 without background.
        mask: (G,) bool, False where there is no object.
        ignored: (G,) bool, see above.
    """

    boxes: jax.Array
    labels: jax.Array
    mask: jax.Array
    ignored: jax.Array

    @property
    def wanted(self) -> jax.Array:
        """(G,) bool: objects that are to be found."""
        return self.mask & ~self.ignored


class Matches(NamedTuple):
    """What each box is.

    Attributes:
        kind: (N,) int32, POSITIVE, NEGATIVE or IGNORED.
        matched: (N,) int32, the wanted object that the box overlaps most, 0 if none;
            it means something where the box is positive.
    """

    kind: jax.Array
    matched: jax.Array


def match(boxes: jax.Array, mask: jax.Array, truth: Truth, rule: Rule) -> Matches:
    """Judges (N, 4) boxes of one image; those that `mask` (N,) excludes are ignored."""
    usable = mask[:, None] & truth.wanted
    overlap = jnp.where(usable, iou(boxes, truth.boxes), 0)
    largest = overlap.max(axis=1)
    positive = largest >= rule.positive
    if rule.best_too:
        best = overlap.max(axis=0)
        positive |= ((overlap >= best - _EQUAL) & (overlap > 0)).any(axis=1)
    hidden = truth.mask & truth.ignored
    part = jnp.where(hidden, coverage(boxes, truth.boxes), 0).max(axis=1)
    negative = (largest < rule.negative) & (part < rule.ignored_part)
    kind = jnp.where(positive, POSITIVE, jnp.where(negative, NEGATIVE, IGNORED))
    return Matches(
        kind=jnp.where(mask, kind, IGNORED).astype(jnp.int32),
        matched=jnp.argmax(overlap, axis=1).astype(jnp.int32),
    )
