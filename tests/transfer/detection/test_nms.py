"""Non-maximum suppression against torchvision, a plain loop and closed forms."""

from functools import partial

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from rtj.sharding import split
from rtj.transfer.detection.nms import nms
from tests.transfer.detection import plain
from tests.transfer.detection.plain import f32, i32


@partial(jax.jit, static_argnames=("outputs", "threshold"))
def run(boxes, scores, mask, groups=None, *, threshold=0.5, outputs):
    def one(boxes, scores, mask, groups):
        return nms(
            boxes, scores, mask, threshold=threshold, outputs=outputs, groups=groups
        )

    return jax.vmap(one)(boxes, scores, mask, groups)


def kept(boxes, scores, mask=None, groups=None, **options):
    """Kept places of one image, after a look at how the rest is filled."""
    mask = np.ones(len(scores), bool) if mask is None else mask
    groups = None if groups is None else groups[None]
    index, found = run(boxes[None], scores[None], mask[None], groups, **options)
    count = int(found.sum())
    assert found[0, :count].all() and not index[0, count:].any()
    return index[0, :count].tolist()


def crowd(rng, count, levels=40):
    """Boxes that overlap a lot, scores with ties, a mask and three groups."""
    return (
        plain.random_boxes(rng, count),
        rng.integers(0, levels, count).astype(np.float32) / levels,
        rng.random(count) < 0.9,
        rng.integers(0, 3, count).astype(np.int32),
    )


@pytest.mark.parametrize("percent", [30, 50, 70])
def test_kept_boxes_and_their_order_equal_torchvisions(torchvision, percent):
    boxes, scores = (torchvision[k].astype(np.float32) for k in ("boxes", "scores"))
    got = kept(boxes, scores, threshold=percent / 100, outputs=40)
    assert got == torchvision[f"nms_{percent}"].tolist()


def test_every_image_of_a_batch_equals_a_plain_loop():
    rng = np.random.default_rng(0)
    boxes, scores, mask, groups = map(
        np.stack, zip(*(crowd(rng, 600) for _ in range(4)), strict=True)
    )
    mask[1] = False
    mask[2, 5:] = False
    index, found = run(boxes, scores, mask, groups, outputs=500)
    for i in range(4):
        want = plain.nms(boxes[i], scores[i], mask[i], 0.5, groups[i])
        assert len(want) < 500
        assert index[i][found[i]].tolist() == want
    assert not found[1].any()


def test_outputs_are_the_best_of_a_longer_result():
    boxes, scores, mask, _ = crowd(np.random.default_rng(1), 600)
    got = kept(boxes, scores, mask, threshold=0.7, outputs=37)
    assert got == plain.nms(boxes, scores, mask, 0.7)[:37]


def test_every_other_box_of_a_long_chain_stays():
    # Each box overlaps the next one by 0.6 and the one after it by 1 / 3, so whether a
    # box stays hangs on all before it, over the borders of blocks.
    left = np.arange(600, dtype=np.float32)
    boxes = np.stack([left, 0 * left, left + 4, 0 * left + 1], -1)
    scores = np.linspace(1, 0, 600, dtype=np.float32)
    got = kept(boxes, scores, threshold=0.5, outputs=600)
    assert got == list(range(0, 600, 2))


def test_equal_scores_keep_the_lower_index():
    boxes = np.tile(f32([0, 0, 10, 10]), (5, 1))
    assert kept(boxes, np.ones(5, np.float32), outputs=5) == [0]


def test_an_overlap_of_exactly_the_threshold_is_allowed():
    boxes = f32([[0, 0, 10, 10], [0, 0, 10, 5]])
    scores = f32([1, 0.5])
    assert kept(boxes, scores, threshold=0.5, outputs=2) == [0, 1]
    assert kept(boxes, scores, threshold=0.49, outputs=2) == [0]


def test_groups_do_not_suppress_each_other_however_far_away_the_boxes_are():
    # An offset a group of 1e6 pixels would round these boxes to the same coordinates.
    boxes = np.tile(f32([1e6, 1e6, 1e6 + 1, 1e6 + 1]), (3, 1))
    groups = i32([7, 100_000, 7])
    got = kept(boxes, f32([0.1, 0.2, 0.3]), groups=groups, outputs=3)
    assert got == [2, 1]


def test_odd_boxes_are_kept_but_those_equal_to_a_better_one(odd_boxes):
    boxes = np.tile(odd_boxes, (2, 1))
    scores = np.linspace(1, 0, 22, dtype=np.float32)
    got = kept(boxes, scores, outputs=22)
    # A box without area suppresses nothing, and nothing suppresses it.
    assert got == [*range(11), *range(11, 15)]


def test_masked_boxes_and_scores_of_nan_neither_stay_nor_suppress():
    boxes = np.tile(f32([0, 0, 10, 10]), (5, 1))
    boxes[0] += 20
    scores = f32([np.nan, np.nan, np.inf, -np.inf, -np.inf])
    mask = np.array([True, True, False, False, True])
    assert kept(boxes, scores, mask, outputs=5) == [4]


def test_eight_devices_keep_what_one_keeps_and_can_do_so_without_talking(meshes):
    rng = np.random.default_rng(2)
    batch = [
        np.stack(rows)
        for rows in zip(*(crowd(rng, 300) for _ in range(8)), strict=True)
    ]
    single, eight = (jax.device_put(batch, split(mesh)) for mesh in meshes)
    want = run(*single, outputs=100)
    for got in jax.tree.leaves(
        jax.tree.map(np.array_equal, run(*eight, outputs=100), want)
    ):
        assert got
    rows = PartitionSpec("data")
    apart = (
        jax.jit(
            jax.shard_map(
                partial(run, outputs=100),
                mesh=meshes[1],
                in_specs=rows,
                out_specs=rows,
                check_vma=False,
            )
        )
        .lower(*eight)
        .compile()
    )
    assert "all-" not in str(apart.as_text())
    for got, there in zip(apart(*eight), want, strict=True):
        np.testing.assert_array_equal(got, there)
