"""Shapes of batches and the plans that share them."""

import itertools

import numpy as np
import pytest

from rtj.transfer.buckets import (
    NO_EXAMPLE,
    detection_buckets,
    eval_plan,
    quarter_octave,
    reduced,
    resized,
    smallest,
    train_window,
    window_batches,
)

VOC = detection_buckets(600, 1000)


def gluon_size(height, width, short, limit):
    """gluon-cv's `resize_short_within`, in NumPy's own rounding."""
    low, high = min(height, width), max(height, width)
    scale = float(short) / float(low)
    if np.round(scale * high) > limit:
        scale = float(limit) / float(high)
    return int(np.round(height * scale)), int(np.round(width * scale))


def test_images_are_resized_as_by_gluon_cv():
    assert resized((375, 500), 600, 1000) == (600, 800)
    assert resized((500, 333), 600, 1000) == (901, 600)
    assert resized((300, 600), 600, 1000) == (500, 1000)
    assert resized((480, 640), 800, 1333) == (800, 1067)
    rng = np.random.default_rng(0)
    for height, width in rng.integers(100, 2000, (2000, 2)).tolist():
        for limits in ((600, 1000), (800, 1333), (96, 96)):
            got = resized((height, width), *limits)
            assert got == gluon_size(height, width, *limits)
            assert min(got) <= limits[0] and max(got) <= limits[1]


def test_a_sliver_keeps_at_least_one_pixel():
    assert resized((1, 5000), 600, 1000) == (1, 1000)
    assert reduced((1, 5000), (768, 768)) == (1, 768)


def test_images_are_reduced_to_a_limit_and_never_enlarged():
    assert reduced((500, 700), (768, 768)) == (500, 700)
    assert reduced((1536, 1024), (768, 768)) == (768, 512)
    assert reduced((600, 800), (800, 608)) == (456, 608)
    rng = np.random.default_rng(1)
    for size in rng.integers(1, 3000, (2000, 2)).tolist():
        for limit in ((768, 768), (608, 1024), (1024, 608)):
            height, width = reduced(tuple(size), limit)
            assert height <= limit[0] and width <= limit[1]
            exact = min(1, limit[0] / size[0], limit[1] / size[1])
            assert abs(height - size[0] * exact) <= 1
            assert abs(width - size[1] * exact) <= 1


def test_detection_has_two_landscapes_their_portraits_and_a_square():
    assert VOC == [(1024, 608), (800, 608), (1024, 1024), (608, 800), (608, 1024)]
    assert set(detection_buckets(800, 1333)) == {
        (800, 1088),
        (800, 1344),
        (1088, 800),
        (1344, 800),
        (1344, 1344),
    }
    assert detection_buckets(96, 96) == [(96, 96)]
    assert detection_buckets(100, 120) == [(128, 128)]


@pytest.mark.parametrize("limits", [(600, 1000), (800, 1333), (300, 320), (96, 96)])
def test_every_resized_image_and_every_mixture_has_a_bucket(limits):
    buckets = detection_buckets(*limits)
    rng = np.random.default_rng(2)
    sizes = [
        resized(tuple(size), *limits)
        for size in rng.integers(1, 3000, (300, 2)).tolist()
    ]
    for a, b in itertools.pairwise(sizes):
        both = (max(a[0], b[0]), max(a[1], b[1]))
        found = smallest(buckets, both)
        assert found[0] >= both[0] and found[1] >= both[1]
        holding = [s for s in buckets if s[0] >= both[0] and s[1] >= both[1]]
        assert found[0] * found[1] == min(s[0] * s[1] for s in holding)


def photos(count, seed=0):
    """Sizes as in PASCAL VOC: two thirds landscape, most of them 4:3."""
    kinds = [(600, 800), (600, 901), (800, 600), (901, 600), (600, 600)]
    rng = np.random.default_rng(seed)
    return [kinds[k] for k in rng.choice(5, count, p=[0.55, 0.15, 0.15, 0.1, 0.05])]


def test_a_window_holds_each_of_its_examples_once_in_shapes_that_fit():
    sizes = photos(32 * 8)
    plan = train_window(sizes, VOC, 8, seed=1, window=5)
    assert len(plan) == 32
    examples = np.concatenate([batch.examples for batch in plan])
    assert sorted(examples.tolist()) == list(range(256))
    for shape, batch in plan:
        height = max(sizes[k][0] for k in batch)
        width = max(sizes[k][1] for k in batch)
        assert shape == smallest(VOC, (height, width))


def test_at_most_a_batch_a_border_is_mixed_and_one_is_square():
    for seed in range(5):
        plan = train_window(photos(256, seed), VOC, 8, seed=seed, window=0)
        shapes = [shape for shape, _ in plan]
        assert shapes.count((1024, 1024)) <= 1
        padded = sum(height * width for height, width in shapes)
        assert padded < 0.6 * 32 * 1024 * 1024


def test_the_order_of_batches_is_drawn_by_seed_and_window():
    sizes = photos(256)

    def order(seed, window):
        plan = train_window(sizes, VOC, 8, seed, window)
        return [int(batch.examples[0]) for batch in plan]

    first = order(1, 0)
    assert order(1, 0) == first
    orders = {tuple(order(seed, window)) for seed in range(3) for window in range(3)}
    assert len(orders) == 9
    assert all(sorted(other) == sorted(first) for other in orders)


def test_examples_of_one_shape_keep_the_order_of_the_stream():
    sizes = photos(256)
    for _, batch in train_window(sizes, VOC, 8, seed=0, window=0):
        for shape in VOC:
            same = [int(k) for k in batch if smallest(VOC, sizes[k]) == shape]
            assert same == sorted(same)
    plan = train_window([(600, 800)] * 64, VOC, 8, seed=0, window=0)
    for _, batch in plan:
        np.testing.assert_array_equal(batch, np.arange(batch[0], batch[0] + 8))


def test_a_window_is_no_longer_than_an_epoch():
    assert window_batches(32, 16, 16551) == 32
    assert window_batches(32, 16, 100) == 6
    assert window_batches(32, 16, 5) == 1


def test_an_evaluation_holds_every_example_once_in_few_shapes():
    shapes = [smallest(VOC, size) for size in photos(101)]
    plan = eval_plan(shapes, 8)
    examples = np.concatenate([batch.examples for batch in plan])
    real = examples[examples != NO_EXAMPLE]
    assert sorted(real.tolist()) == list(range(101))
    for shape, batch in plan:
        assert batch.shape == (8,) and batch.dtype == np.int32
        for index in batch[batch != NO_EXAMPLE]:
            assert shape == smallest(VOC, photos(101)[index])
    # Padding comes last, and only in the last batch of a shape.
    kinds = [shape for shape, _ in plan]
    assert len(plan) == sum(-(-shapes.count(shape) // 8) for shape in set(shapes))
    for number, (shape, batch) in enumerate(plan):
        padding = batch == NO_EXAMPLE
        assert not padding[0] and (np.diff(padding.astype(int)) >= 0).all()
        if padding.any():
            assert shape not in kinds[number + 1 :]
    areas = [height * width for height, width in kinds]
    assert areas == sorted(areas, reverse=True)


def test_sides_go_up_to_a_quarter_of_an_octave():
    wanted = {
        1: 8, 8: 8, 9: 16, 17: 24, 25: 32, 33: 40, 64: 64, 65: 80, 96: 96, 97: 112,
        375: 384, 500: 512, 512: 512, 513: 640, 683: 768, 769: 896, 1025: 1280,
    }  # fmt: skip
    assert {side: quarter_octave(side) for side in wanted} == wanted
    grid = {
        2**k * quarter // 4
        for k in range(1, 14)
        for quarter in (4, 5, 6, 7)
        if 2**k * quarter % 32 == 0
    }
    for side in range(1, 3000):
        assert quarter_octave(side) == min(value for value in grid if value >= side)
