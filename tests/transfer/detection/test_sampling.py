"""Samples of boxes: sizes, shares, fairness, and independence of devices."""

from functools import partial

import jax
import numpy as np
import pytest
from scipy import stats

from rtj.sharding import split
from rtj.transfer.detection.matching import IGNORED, NEGATIVE, POSITIVE
from rtj.transfer.detection.sampling import (
    HEAD_SAMPLING,
    RPN_SAMPLING,
    Sampling,
    example_keys,
    sample,
)
from tests.transfer.detection.plain import i32


@partial(jax.jit, static_argnames="how")
def run(seed, step, index, kind, how):
    keys = example_keys(jax.random.key(seed), step, index)
    return jax.vmap(lambda key, kind: sample(key, kind, how))(keys, kind)


def kinds(positive, negative, ignored):
    """In a random order that does not depend on the sampling's keys."""
    kind = np.repeat([POSITIVE, NEGATIVE, IGNORED], [positive, negative, ignored])
    return np.random.default_rng(0).permutation(kind).astype(np.int32)


@pytest.mark.parametrize(
    ("how", "available", "want"),
    [
        (RPN_SAMPLING, (300, 600, 100), (128, 128)),
        (RPN_SAMPLING, (20, 900, 80), (20, 236)),
        (RPN_SAMPLING, (300, 50, 650), (128, 50)),
        (RPN_SAMPLING, (0, 1000, 0), (0, 256)),
        (RPN_SAMPLING, (0, 0, 1000), (0, 0)),
        (HEAD_SAMPLING, (300, 600, 100), (32, 96)),
        (HEAD_SAMPLING, (10, 990, 0), (10, 118)),
        (HEAD_SAMPLING, (1000, 0, 0), (32, 0)),
        (Sampling(64, 0.0), (500, 500, 0), (0, 64)),
    ],
)
def test_positive_boxes_up_to_their_share_and_negative_ones_for_the_rest(
    how, available, want
):
    kind = kinds(*available)
    got = run(0, 5, i32([9]), kind[None], how)
    index, positive, mask = (np.asarray(part[0]) for part in got)
    assert index.shape == positive.shape == mask.shape == (how.size,)
    assert (positive.sum(), mask.sum()) == (want[0], sum(want))
    chosen = index[mask]
    assert len(set(chosen)) == len(chosen)
    assert (kind[index[positive]] == POSITIVE).all()
    assert (kind[index[mask & ~positive]] == NEGATIVE).all()
    assert not index[~mask].any() and not positive[~mask].any()


def test_fewer_boxes_than_the_sample_are_all_taken():
    kind = i32([[POSITIVE, NEGATIVE, NEGATIVE, IGNORED]])
    index, positive, mask = run(0, 0, i32([0]), kind, RPN_SAMPLING)
    assert sorted(index[0][mask[0]].tolist()) == [0, 1, 2]
    assert index[0][positive[0]].tolist() == [0]


def test_every_box_of_a_kind_is_equally_likely():
    images, kind = 2000, kinds(20, 40, 10)
    how = Sampling(16, 0.5)
    every = np.tile(kind, (images, 1))
    index, positive, mask = run(3, 1, np.arange(images, dtype=np.int32), every, how)
    for part, which in ((positive, POSITIVE), (mask & ~positive, NEGATIVE)):
        counts = np.bincount(index[part], minlength=70)
        assert counts[kind != which].sum() == 0
        # Drawn without replacement, so the variance is below that of the test's model.
        assert stats.chisquare(counts[kind == which]).pvalue > 1e-3


def test_seed_step_and_example_each_change_the_sample_and_nothing_else_does():
    kind = np.tile(kinds(300, 600, 100), (4, 1))
    index = i32([4, 8, 15, 16])
    first = run(0, 5, index, kind, RPN_SAMPLING).places
    samples = [
        *first,
        run(1, 5, index, kind, RPN_SAMPLING).places[0],
        run(0, 6, index, kind, RPN_SAMPLING).places[0],
    ]
    assert len({tuple(s.tolist()) for s in samples}) == 6
    turned = run(0, 5, index[::-1], kind, RPN_SAMPLING).places
    np.testing.assert_array_equal(turned, first[::-1])


def test_eight_devices_draw_what_one_draws(meshes):
    rng = np.random.default_rng(1)
    kind = rng.integers(-1, 2, (16, 500)).astype(np.int32)
    index = np.arange(16, dtype=np.int32) * 7
    single, eight = (
        run(2, 3, *jax.device_put((index, kind), split(mesh)), RPN_SAMPLING)
        for mesh in meshes
    )
    assert len(eight.places.sharding.device_set) == 8
    for one, all_ in zip(single, eight, strict=True):
        np.testing.assert_array_equal(one, all_)
