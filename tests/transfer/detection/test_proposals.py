"""Proposals against a plain loop: decode, clip, drop, suppress, cut."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.transfer.detection.anchors import map_anchors
from rtj.transfer.detection.matching import Truth
from rtj.transfer.detection.proposals import (
    TEST_PROPOSALS,
    TRAIN_PROPOSALS,
    ProposalOptions,
    Proposals,
    propose,
    with_truth,
)
from tests.transfer.detection import plain
from tests.transfer.detection.plain import f32

Map = tuple[int, int, int, tuple[int, ...]]
MAPS: dict[str, list[Map]] = {
    "one map": [(6, 8, 16, (32, 64))],
    "two": [(6, 8, 16, (32,)), (3, 4, 32, (64,))],
}
# Images of other sizes inside one canvas of 96 x 128 pixels.
HEIGHTS, WIDTHS = f32([96, 80, 96, 50]), f32([128, 128, 70, 60])


@partial(jax.jit, static_argnames="options")
def run(logits, offsets, anchors, heights, widths, options):
    def one(logits, offsets, height, width):
        return propose(logits, offsets, anchors, height, width, options)

    return jax.vmap(one)(logits, offsets, heights, widths)


def outputs(anchors, seed=0, images=4):
    """Random scores (with ties) and offsets for each map."""
    rng = np.random.default_rng(seed)
    logits, offsets = [], []
    for boxes in anchors:
        scores = rng.integers(-20, 20, (images, len(boxes))) / 8
        logits.append(scores.astype(np.float32))
        moves = rng.normal(0, 0.4, (images, len(boxes), 4))
        offsets.append(moves.astype(np.float32))
    return logits, offsets


def plain_propose(logits, offsets, anchors, height, width, options):
    boxes, scores, maps = [], [], []
    for number, (score, offset, anchor) in enumerate(
        zip(logits, offsets, anchors, strict=True)
    ):
        best = sorted(range(len(score)), key=lambda i: (-score[i], i))
        for i in best[: options.before_nms]:
            box = plain.decode(offset[i], anchor[i])
            limits = [width, height, width, height]
            box = [min(max(v, 0), m) for v, m in zip(box, limits, strict=True)]
            if min(box[2] - box[0], box[3] - box[1]) >= options.min_size:
                boxes.append(box)
                scores.append(score[i])
                maps.append(number)
    there = [True] * len(boxes)
    kept = plain.nms(boxes, scores, there, options.threshold, maps)
    kept = kept[: options.after_nms]
    return [boxes[i] for i in kept], [scores[i] for i in kept]


@pytest.mark.parametrize("maps", MAPS)
@pytest.mark.parametrize("limits", [(1000, 100), (40, 100), (1000, 7)])
def test_proposals_equal_a_plain_loop(maps, limits):
    anchors = [map_anchors(*map_) for map_ in MAPS[maps]]
    logits, offsets = outputs(anchors)
    options = ProposalOptions(limits[0], limits[1], threshold=0.5, min_size=20.0)
    got = run(logits, offsets, anchors, HEIGHTS, WIDTHS, options)
    for i in range(4):
        boxes, scores = plain_propose(
            [x[i] for x in logits],
            [x[i] for x in offsets],
            anchors,
            HEIGHTS[i],
            WIDTHS[i],
            options,
        )
        count = len(boxes)
        assert 0 < count <= limits[1]
        np.testing.assert_array_equal(got.mask[i], np.arange(limits[1]) < count)
        np.testing.assert_allclose(got.boxes[i, :count], boxes, atol=1e-3)
        np.testing.assert_array_equal(got.logits[i, :count], scores)
        assert not got.boxes[i, count:].any() and not got.logits[i, count:].any()


def test_limits_are_those_of_the_paper():
    assert (TRAIN_PROPOSALS.before_nms, TRAIN_PROPOSALS.after_nms) == (12000, 2000)
    assert (TEST_PROPOSALS.before_nms, TEST_PROPOSALS.after_nms) == (6000, 300)
    assert TRAIN_PROPOSALS.threshold == TEST_PROPOSALS.threshold == 0.7


def test_wild_offsets_give_finite_boxes_inside_the_image():
    anchors = [map_anchors(6, 8, 16, (32, 64))]
    logits, offsets = outputs(anchors)
    wild = [x * np.float32(1e6) for x in offsets]
    options = ProposalOptions(1000, 100)
    got = run(logits, wild, anchors, HEIGHTS, WIDTHS, options)
    assert np.isfinite(got.boxes).all() and (got.boxes >= 0).all()
    for i in range(4):
        assert (got.boxes[i] <= f32([WIDTHS[i], HEIGHTS[i]] * 2)).all()


def test_an_image_smaller_than_the_shortest_side_has_no_proposals():
    anchors = [map_anchors(6, 8, 16, (32, 64))]
    tiny = np.full(4, 15, np.float32)
    got = run(*outputs(anchors), anchors, tiny, WIDTHS, ProposalOptions(1000, 100))
    assert not got.mask.any() and not got.boxes.any()


def test_no_gradient_passes_through_proposals():
    anchors = [map_anchors(6, 8, 16, (32, 64))]
    inputs = outputs(anchors)

    def total(inputs):
        got = run(*inputs, anchors, HEIGHTS, WIDTHS, ProposalOptions(1000, 100))
        return got.boxes.sum() + got.logits.sum()

    assert not any(x.any() for x in jax.tree.leaves(jax.grad(total)(inputs)))


def test_objects_that_are_wanted_join_the_proposals():
    proposals = Proposals(
        jnp.ones((3, 4)), jnp.zeros(3), jnp.array([True, True, False])
    )
    truth = Truth(
        2 * jnp.ones((4, 4)),
        jnp.zeros(4, jnp.int32),
        jnp.array([True, True, False, False]),
        jnp.array([False, True, False, True]),
    )
    boxes, mask = with_truth(proposals, truth)
    np.testing.assert_array_equal(boxes[:, 0], [1, 1, 1, 2, 2, 2, 2])
    assert mask.tolist() == [True, True, False, True, False, False, False]
