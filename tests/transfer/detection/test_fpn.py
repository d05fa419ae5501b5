"""Levels of RoIs against the paper's formula; the pyramid's shapes and sums."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.transfer.detection.fpn import (
    FeaturePyramid,
    enlarge,
    pyramid_roi_align,
    roi_levels,
)
from rtj.transfer.detection.roi_align import roi_align
from tests.transfer.detection.plain import f32

STRIDES = (4, 8, 16, 32)


def corner_boxes(sides):
    sides = np.asarray(sides, np.float64)
    return f32(np.concatenate([np.full_like(sides, 3), 3 + sides], axis=-1))


def test_levels_are_those_of_the_papers_formula():
    sides = np.exp(np.random.default_rng(0).uniform(0, 7.5, (2000, 2)))
    boxes = corner_boxes(sides)
    exact = np.prod(boxes[:, 2:].astype(np.float64) - boxes[:, :2], axis=-1)
    level = np.clip(np.floor(4 + np.log2(np.sqrt(exact) / 224)), 2, 5)
    assert set(level) == {2, 3, 4, 5}
    np.testing.assert_array_equal(roi_levels(boxes, STRIDES), level - 2)


@pytest.mark.parametrize(
    ("side", "level"), [(0, 2), (111, 2), (112, 3), (224, 4), (448, 5), (5000, 5)]
)
def test_a_box_as_large_as_imagenets_crop_is_read_from_level_4(side, level):
    (found,) = roi_levels(corner_boxes([[side, side]]), STRIDES)
    assert found == level - 2


def test_levels_scale_with_the_strides():
    boxes = corner_boxes(np.exp(np.random.default_rng(1).uniform(0, 7, (200, 2))))
    np.testing.assert_array_equal(
        roi_levels(boxes, STRIDES), roi_levels(boxes / 4, (1, 2, 4, 8))
    )


def test_boxes_are_read_from_their_own_level():
    rng = np.random.default_rng(2)
    levels = [
        rng.normal(size=(128 // s, 96 // s, 5)).astype(np.float32) for s in (1, 2, 4, 8)
    ]
    boxes = corner_boxes(np.exp(rng.uniform(0, 5, (40, 2))))
    strides = (1, 2, 4, 8)

    def read(levels, boxes):
        alone = [
            roi_align(level, boxes, output_size=3, spatial_scale=1 / stride)
            for level, stride in zip(levels, strides, strict=True)
        ]
        return pyramid_roi_align(levels, boxes, strides, 3), alone

    found, alone = jax.jit(read)(levels, boxes)
    own = np.asarray(roi_levels(boxes, strides)).tolist()
    assert set(own) == {0, 1, 2}
    for i, level in enumerate(own):
        np.testing.assert_allclose(found[i], alone[level][i], rtol=1e-3, atol=1e-5)


def test_enlarging_repeats_cells_and_cuts_the_surplus():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    got = enlarge(x, 3, 6)[0, :, :, 0]
    assert got.tolist() == [
        [0, 0, 1, 1, 2, 2],
        [0, 0, 1, 1, 2, 2],
        [3, 3, 4, 4, 5, 5],
    ]
    np.testing.assert_array_equal(enlarge(x, 2, 3), x)


def test_every_level_holds_its_stage_and_those_above():
    """With all kernels 1 in the middle and channels of 1, levels are plain sums."""
    stages = [jnp.full((1, n, n, 1), value) for n, value in ((9, 1.0), (5, 10.0))]
    pyramid = FeaturePyramid(1, jnp.float32)
    shapes = jax.eval_shape(pyramid.init, jax.random.key(0), stages)

    def identity(leaf):
        if leaf.ndim == 1:
            return jnp.zeros(leaf.shape)
        return jnp.zeros(leaf.shape).at[leaf.shape[0] // 2, leaf.shape[1] // 2].set(1)

    found: Any = pyramid.apply(jax.tree.map(identity, shapes), stages)
    assert [x.shape for x in found] == [(1, 9, 9, 1), (1, 5, 5, 1), (1, 3, 3, 1)]
    assert [set(np.unique(x)) for x in found] == [{11.0}, {10.0}, {10.0}]
