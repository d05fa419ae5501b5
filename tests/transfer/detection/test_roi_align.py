"""ROIAlign against torchvision and a plain loop over sampling points."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.errors import ConfigError
from rtj.transfer.detection.roi_align import roi_align
from tests.transfer.detection.plain import f32


@partial(jax.jit, static_argnames=("size", "ratio", "aligned", "cap", "scale"))
def run(features, boxes, *, size=7, scale=1 / 16, ratio=2, aligned=False, cap=0):
    def one(features, boxes):
        return roi_align(
            features,
            boxes,
            output_size=size,
            spatial_scale=scale,
            sampling_ratio=ratio,
            aligned=aligned,
            max_samples=cap,
        )

    return jax.vmap(one)(features, boxes)


def bilinear(features, y, x):
    """(C,) at a point; beyond the border cells the border, further out 0."""
    height, width, _ = features.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros(features.shape[2])
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    below, right = min(top + 1, height - 1), min(left + 1, width - 1)
    y, x = y - top, x - left
    upper = (1 - x) * features[top, left] + x * features[top, right]
    lower = (1 - x) * features[below, left] + x * features[below, right]
    return (1 - y) * upper + y * lower


def plain_roi_align(features, box, size, scale, ratio, aligned):
    """One box, all points one after the other, as many as wanted."""
    x1, y1, x2, y2 = (float(v) * scale - 0.5 * aligned for v in box)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1.0), max(height, 1.0)
    rows = ratio or math.ceil(height / size)
    columns = ratio or math.ceil(width / size)
    out = np.zeros((size, size, features.shape[2]))
    for i in range(size):
        for j in range(size):
            for a in range(rows):
                for b in range(columns):
                    y = y1 + (i + (a + 0.5) / rows) * height / size
                    x = x1 + (j + (b + 0.5) / columns) * width / size
                    out[i, j] += bilinear(features, y, x)
    return out / max(rows * columns, 1)


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(0).normal(size=(1, 9, 12, 3)).astype(np.float32)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [2, 0])
def test_features_equal_torchvisions_in_a_batch(torchvision, ratio, aligned):
    images = torchvision["features"].transpose(0, 2, 3, 1).astype(np.float32)
    boxes = np.tile(torchvision["boxes"].astype(np.float32), (2, 1, 1))
    cap = 0 if ratio else math.ceil(31 / 7)
    got = run(images, boxes, ratio=ratio, aligned=aligned, cap=cap)
    got = np.asarray(got)[torchvision["batch_index"], np.arange(40)]
    want = torchvision[f"roi_align_s{ratio}_a{int(aligned)}"].transpose(0, 2, 3, 1)
    np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [1, 0])
def test_odd_boxes_equal_a_plain_loop(features, odd_boxes, ratio, aligned):
    # The last two are huge; where their few points fall is a matter of rounding.
    got = run(
        features,
        odd_boxes[None],
        size=3,
        scale=1 / 8,
        ratio=ratio,
        aligned=aligned,
        cap=0 if ratio else 27,
    )[0]
    assert np.isfinite(got).all()
    want = [
        plain_roi_align(features[0].astype(float), box, 3, 1 / 8, ratio, aligned)
        for box in odd_boxes[:-2]
    ]
    np.testing.assert_allclose(got[:-2], want, atol=1e-5)


def test_boxes_over_the_border_equal_a_plain_loop(features):
    rng = np.random.default_rng(1)
    low = rng.uniform(-20, 90, (20, 2))
    boxes = np.concatenate([low, low + rng.uniform(1, 60, (20, 2))], 1)
    boxes = boxes.astype(np.float32)
    got = run(features, boxes[None], size=3, scale=1 / 8, ratio=0, cap=4)[0]
    for box, out in zip(boxes, got, strict=True):
        want = plain_roi_align(features[0].astype(float), box, 3, 1 / 8, 0, False)
        np.testing.assert_allclose(out, want, atol=1e-5)


def test_a_box_above_the_bound_is_sampled_as_often_as_the_bound_allows(features):
    boxes = f32([[[0, 0, 96, 72], [8, 8, 20, 20]]])
    options = {"size": 3, "scale": 1 / 8}
    capped = run(features, boxes, ratio=0, cap=2, **options)
    free = run(features, boxes, ratio=0, cap=4, **options)
    np.testing.assert_array_equal(
        capped[0, 0], run(features, boxes, ratio=2, **options)[0, 0]
    )
    assert np.abs(capped - free)[0, 0].max() > 0.01
    np.testing.assert_allclose(capped[0, 1], free[0, 1], atol=1e-6)


def test_constant_features_are_kept_inside_the_image():
    got = run(np.full((1, 9, 12, 1), 3, np.float32), f32([[[9, 8, 70, 66]]]))
    np.testing.assert_allclose(got, 3, rtol=1e-6)


@pytest.mark.parametrize("ratio", [2, 0])
def test_gradient_by_features_equals_finite_differences(features, odd_boxes, ratio):
    rng = np.random.default_rng(2)
    boxes = np.concatenate([odd_boxes, f32([[3, 4, 50, 60]])])[None]
    options = {"size": 3, "scale": 1 / 8, "ratio": ratio, "cap": 0 if ratio else 4}
    weight = rng.normal(size=(1, 12, 3, 3, 3)).astype(np.float32)

    def loss(features, boxes):
        return jnp.sum(weight * run(features, boxes, **options))

    gradient, by_boxes = jax.grad(loss, (0, 1))(jnp.asarray(features), boxes)
    assert not by_boxes.any()
    # It is linear in the features, so a difference over any step is the derivative.
    for _ in range(3):
        step = rng.normal(size=features.shape).astype(np.float32)
        difference = (loss(features + step, boxes) - loss(features - step, boxes)) / 2
        np.testing.assert_allclose(np.sum(gradient * step), difference, rtol=1e-4)


def test_not_even_nan_and_infinite_boxes_spoil_the_features(features):
    boxes = f32([[np.nan] * 4, [0, 0, np.inf, np.inf], [-np.inf] * 2 + [9, 9]])
    for options in ({"ratio": 2}, {"ratio": 0, "cap": 2}):
        assert np.isfinite(run(features, boxes[None], size=3, **options)).all()


def test_low_precision_features_give_their_own_dtype(features):
    boxes = f32([[[3, 4, 50, 60]]])
    exact = run(features, boxes, size=3, scale=1 / 8)
    low = run(features.astype(jnp.bfloat16), boxes, size=3, scale=1 / 8)
    assert low.dtype == jnp.bfloat16
    np.testing.assert_allclose(low.astype(np.float32), exact, atol=0.05)


@pytest.mark.parametrize(("ratio", "cap"), [(0, 0), (2, 2), (-1, 0)])
def test_samples_without_a_static_number_are_refused(features, ratio, cap):
    with pytest.raises(ConfigError, match=f"sampling_ratio={ratio}, max_samples={cap}"):
        run(features, np.zeros((1, 1, 4), np.float32), ratio=ratio, cap=cap)
