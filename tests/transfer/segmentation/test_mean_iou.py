"""The scores against confusion matrices counted in NumPy."""

from functools import partial

import jax
import numpy as np
import pytest

from rtj.errors import DataError
from rtj.sharding import make_mesh, split
from rtj.transfer.segmentation.mean_iou import (
    class_iou,
    confusion_matrix,
    mean_iou,
    pixel_accuracy,
)

CLASSES = 5
count = jax.jit(partial(confusion_matrix, num_classes=CLASSES))


@pytest.fixture
def predicted():
    return np.random.default_rng(0).integers(0, CLASSES, (8, 7, 9)).astype(np.int32)


@pytest.fixture
def masks():
    return np.random.default_rng(1).integers(0, CLASSES, (8, 7, 9)).astype(np.int32)


def numpy_confusion(predicted, masks):
    counts = np.zeros((CLASSES, CLASSES), int)
    for place in np.ndindex(masks.shape):
        if 0 <= masks[place] < CLASSES:
            counts[masks[place], predicted[place]] += 1
    return counts


@pytest.mark.parametrize(("ignore_label", "dtype"), [(255, np.uint8), (-1, np.int32)])
def test_counts_equal_numpys_and_leave_ignored_pixels_out(
    predicted, masks, ignore_label, dtype
):
    masks[0, :3] = masks[5] = ignore_label
    found = count(predicted, masks.astype(dtype))
    assert found.dtype == np.int32
    assert found.sum() == masks.size - (masks == ignore_label).sum()
    np.testing.assert_array_equal(found, numpy_confusion(predicted, masks))


def test_counts_of_batches_add_up_to_those_of_the_whole(predicted, masks):
    parts = [count(predicted[i : i + 2], masks[i : i + 2]) for i in (0, 2, 4, 6)]
    np.testing.assert_array_equal(sum(parts), numpy_confusion(predicted, masks))


def test_eight_devices_count_as_one(predicted, masks):
    placed = jax.device_put((predicted, masks), split(make_mesh(8)))
    found = count(*placed)
    assert found.sharding.is_fully_replicated
    np.testing.assert_array_equal(found, numpy_confusion(predicted, masks))


def test_counts_of_a_large_image_are_exact():
    masks = np.zeros((1, 2100, 2000), np.int32)
    masks[0, 0, 0] = 1
    found = count(np.zeros_like(masks), masks)
    assert found[0, 0] == 2100 * 2000 - 1
    assert found[1, 0] == 1


def test_scores_equal_intersections_and_unions_of_pixel_sets(predicted, masks):
    counts = numpy_confusion(predicted, masks)
    ious = []
    for label in range(CLASSES):
        truth, guess = masks == label, predicted == label
        ious.append((truth & guess).sum() / (truth | guess).sum())
    np.testing.assert_allclose(class_iou(counts), ious)
    assert mean_iou(counts) == pytest.approx(np.mean(ious))
    assert pixel_accuracy(counts) == pytest.approx((predicted == masks).mean())


def test_a_class_that_is_nowhere_is_left_out_of_the_mean():
    # Class 2 is in neither; class 1 is predicted but never true.
    counts = np.array([[6, 2, 0], [0, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(class_iou(counts), [0.75, 0, np.nan])
    assert mean_iou(counts) == pytest.approx(0.375)


def test_perfect_predictions_score_1(masks):
    counts = count(masks, masks)
    assert mean_iou(counts) == pixel_accuracy(counts) == 1


def test_sums_beyond_32_bits_are_exact():
    counts = np.full((2, 2), 2**31 - 1, np.int32).astype(np.int64) * 4
    assert pixel_accuracy(counts) == 0.5
    assert mean_iou(counts) == pytest.approx(1 / 3)


@pytest.mark.parametrize("score", [mean_iou, pixel_accuracy])
def test_no_counted_pixel_is_an_error(score):
    with pytest.raises(DataError, match="no pixel has a label that is a class"):
        score(np.zeros((3, 3), int))
