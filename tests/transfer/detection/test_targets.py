"""What anchors and RoIs are trained towards, on one image."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.transfer.detection.anchors import map_anchors
from rtj.transfer.detection.boxes import HEAD_WEIGHTS, RPN_WEIGHTS, decode
from rtj.transfer.detection.matching import Truth
from rtj.transfer.detection.options import DetectionOptions
from rtj.transfer.detection.rpn import RPNOutputs
from rtj.transfer.detection.targets import anchor_targets, roi_targets
from tests.transfer.detection import plain
from tests.transfer.detection.plain import f32, i32

# A canvas of 96 x 128 of which the image takes 80 x 100.
ANCHORS = [map_anchors(12, 16, 8, (16, 32)), map_anchors(6, 8, 16, (48,))]
SIZE = i32([80, 100])
TRUTH = Truth(
    boxes=f32([[10, 12, 45, 40], [60, 30, 80, 75], [20, 50, 36, 66], [0, 0, 0, 0]]),
    labels=i32([3, 0, 5, 0]),
    mask=jnp.array([True, True, True, False]),
    ignored=jnp.zeros(4, bool),
)
OPTIONS = DetectionOptions(
    rpn_min_size=4.0, train_pre_nms=200, train_post_nms=60, rpn_batch=40, roi_batch=24
)


@partial(jax.jit, static_argnums=1)
def anchors_of(truth, options=OPTIONS):
    return anchor_targets(ANCHORS, SIZE, truth, jax.random.key(0), options)


@partial(jax.jit, static_argnums=1)
def rois_of(truth, options=OPTIONS):
    rng = np.random.default_rng(0)
    outputs = RPNOutputs(
        [f32(rng.normal(size=len(boxes))) for boxes in ANCHORS],
        [f32(rng.normal(0, 0.2, boxes.shape)) for boxes in ANCHORS],
    )
    return roi_targets(outputs, ANCHORS, SIZE, truth, jax.random.key(0), options)


def best(box, truth=TRUTH):
    """The largest overlap with an object, and which one that is."""
    overlaps = [
        plain.iou(box, other) if there else 0.0
        for other, there in zip(truth.boxes, truth.mask, strict=True)
    ]
    return max(overlaps), int(np.argmax(overlaps))


def test_anchors_lie_inside_the_image_and_lead_to_their_objects():
    got = jax.device_get(anchors_of(TRUTH))
    assert got.mask.all() and 0 < got.positive.sum() <= 20
    boxes = np.concatenate(ANCHORS)[got.places]
    assert (boxes >= 0).all() and (boxes[:, 2:] <= [100, 80]).all()
    moved = decode(got.offsets, boxes, RPN_WEIGHTS)
    for box, end, positive in zip(boxes, moved, got.positive, strict=True):
        overlap, place = best(box)
        if positive:
            np.testing.assert_allclose(end, TRUTH.boxes[place], atol=1e-3)
        else:
            assert overlap < 0.3


def test_rois_lie_inside_the_image_and_lead_to_their_objects():
    got = jax.device_get(rois_of(TRUTH))
    assert got.mask.all()
    positive = got.labels > 0
    assert 3 <= positive.sum() <= 6  # a quarter of 24
    assert (got.boxes >= 0).all() and (got.boxes[:, 2:] <= [100, 80]).all()
    ends = decode(got.offsets, got.boxes, HEAD_WEIGHTS)
    for box, end, label in zip(got.boxes, ends, got.labels, strict=True):
        overlap, place = best(box)
        assert (overlap >= 0.5) == (label > 0)
        if label:
            assert label == 1 + TRUTH.labels[place]
            np.testing.assert_allclose(end, TRUTH.boxes[place], atol=1e-3)


@pytest.mark.parametrize("reason", ["no objects", "all are ignored"])
def test_without_objects_all_is_background_or_nothing(reason):
    if reason == "no objects":
        truth = TRUTH._replace(mask=jnp.zeros(4, bool))
    else:
        truth = TRUTH._replace(ignored=jnp.ones(4, bool))
    anchors, rois = jax.device_get((anchors_of(truth), rois_of(truth)))
    assert anchors.mask.all() and not anchors.positive.any()
    assert rois.mask.any() and not rois.labels.any()


def test_rois_that_are_not_there_are_marked():
    options = DetectionOptions(train_pre_nms=3, train_post_nms=2, roi_batch=24)
    got = jax.device_get(rois_of(TRUTH, options))
    assert 3 <= got.mask.sum() <= 5
    assert not got.boxes[~got.mask].any() and not got.labels[~got.mask].any()
