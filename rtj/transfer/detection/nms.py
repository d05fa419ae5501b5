"""Greedy non-maximum suppression with a fixed number of outputs.

Boxes are taken by falling score, and one is kept unless it overlaps a kept one of its
group by more than the threshold; of equal scores the lower index comes first. That is
torchvision's `nms`, and its `batched_nms` with groups. Groups (classes, or levels of a
pyramid) do not suppress each other: an explicit comparison says so, where torchvision
moves each group's boxes by an offset and loses bits of their coordinates.

The order makes this sequential, but not box by box. Sorted boxes come in blocks of
256. A block is first compared with all that is kept. Within the block

    keep[j] = not suppressed[j] and no i < j with keep[i] and overlap[i, j]

is applied until nothing changes: box j is right after at most j rounds, since it asks
only earlier ones, so the result is the greedy one, and real scenes need a few rounds.
The loop ends as soon as all outputs are found. For 12,000 boxes and 2,000 outputs that
is at most 47 steps of wide operations on 256 x 2,000 overlaps. A loop over outputs
takes 2,000 dependent steps, and a matrix of all overlaps 576 MB an image. On 2 CPU
cores an image of 20 objects and clutter takes 64 ms, with a loop over outputs 197 ms.

Under `jax.vmap` the images of a batch share the loops and wait for the slowest. Where
a batch is split over devices, the devices would then ask each other after every round;
inside `jax.shard_map` (with `check_vma=False`) each loops over its own images and
nothing is sent.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rtj.transfer.detection.boxes import iou

_BLOCK = 256


class Kept(NamedTuple):
    """What is left, best first.

    Attributes:
        places: (outputs,) int32, indices into the input; 0 where `mask` is False.
        mask: (outputs,) bool, True for the first so many.
    """

    places: jax.Array
    mask: jax.Array


class _Progress(NamedTuple):
    """Outputs `found` so far: their places in the sorted input, boxes and groups."""

    block: jax.Array
    found: jax.Array
    places: jax.Array
    boxes: jax.Array
    groups: jax.Array


def nms(
    boxes: jax.Array,
    scores: jax.Array,
    mask: jax.Array,
    *,
    threshold: float,
    outputs: int,
    groups: jax.Array | None = None,
) -> Kept:
    """Removes boxes that overlap a better one of their group.

    Args:
        boxes: (N, 4) float32.
        scores: (N,) float32; a box with a score of NaN is not kept.
        mask: (N,) bool, False for boxes that are not there.
        threshold: largest overlap (IoU) that two kept boxes of a group may have, 0 or
            more.
        outputs: how many to keep at most.
        groups: (N,) int32; None: all are of one group.
    """
    if groups is None:
        groups = jnp.zeros(scores.shape, jnp.int32)
    mask = mask & ~jnp.isnan(scores)
    order = jnp.lexsort((-scores, ~mask))  # stable
    padding = (0, -len(order) % _BLOCK)
    boxes, groups, there = (
        jnp.pad(rows[order], (padding,) + ((0, 0),) * (rows.ndim - 1))
        for rows in (boxes, groups, mask)
    )
    start = _Progress(
        block=jnp.int32(0),
        found=jnp.int32(0),
        places=jnp.zeros(outputs, jnp.int32),
        boxes=jnp.zeros((outputs, 4), boxes.dtype),
        groups=jnp.zeros(outputs, groups.dtype),
    )
    blocks = len(boxes) // _BLOCK

    def unfinished(progress: _Progress) -> jax.Array:
        return (progress.block < blocks) & (progress.found < outputs)

    def advance(progress: _Progress) -> _Progress:
        return _one_block(progress, boxes, groups, there, threshold)

    end = jax.lax.while_loop(unfinished, advance, start)
    mask = jnp.arange(outputs) < end.found
    return Kept(jnp.where(mask, order[end.places].astype(jnp.int32), 0), mask)


def _one_block(
    progress: _Progress,
    boxes: jax.Array,
    groups: jax.Array,
    there: jax.Array,
    threshold: float,
) -> _Progress:
    """Decides on the next block and adds what it keeps to the outputs."""
    first = progress.block * _BLOCK
    boxes, groups, there = (
        jax.lax.dynamic_slice_in_dim(rows, first, _BLOCK)
        for rows in (boxes, groups, there)
    )
    outputs = len(progress.places)
    # Outputs not found yet are boxes without area, which overlap nothing.
    earlier = _suppresses(progress.boxes, progress.groups, boxes, groups, threshold)
    keep = _greedy(
        there & ~earlier.any(axis=0),
        jnp.triu(_suppresses(boxes, groups, boxes, groups, threshold), 1),
    )
    place = progress.found + jnp.cumsum(keep, dtype=jnp.int32) - 1
    place = jnp.where(keep, place, outputs)  # beyond the end: dropped
    return _Progress(
        block=progress.block + 1,
        found=jnp.minimum(progress.found + keep.sum(dtype=jnp.int32), outputs),
        places=progress.places.at[place].set(first + jnp.arange(_BLOCK), mode="drop"),
        boxes=progress.boxes.at[place].set(boxes, mode="drop"),
        groups=progress.groups.at[place].set(groups, mode="drop"),
    )


def _suppresses(
    boxes: jax.Array,
    groups: jax.Array,
    others: jax.Array,
    other_groups: jax.Array,
    threshold: float,
) -> jax.Array:
    """(N, M) bool: box i would, if kept, suppress other box j."""
    return (iou(boxes, others) > threshold) & (groups[:, None] == other_groups)


def _greedy(free: jax.Array, overlap: jax.Array) -> jax.Array:
    """Which of (B,) `free` boxes stay; overlap (B, B) is strictly upper triangular."""

    def again(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        keep, _ = state
        new = free & ~(overlap & keep[:, None]).any(axis=0)
        return new, (new != keep).any()

    return jax.lax.while_loop(lambda s: s[1], again, (free, free.any()))[0]
