"""VOC's mAP against the devkit's definition in loops, and cases worked by hand."""

from fractions import Fraction

import numpy as np
import pytest

from rtj.errors import DataError
from rtj.transfer.detection.voc_map import Detections, Objects, voc_map
from tests.transfer.detection import plain
from tests.transfer.detection.scenes import found, there

A, B, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]


def devkit(detections, objects, label, points):
    """`VOCevaldet.m` for one class, with whole fractions; None without objects."""
    total = sum(
        bool(c == label and not hard)
        for o in objects
        for c, hard in zip(o.labels, o.difficult, strict=True)
    )
    if not total:
        return None
    rows = [
        (-score, image, place)
        for image, d in enumerate(detections)
        for place, (score, c) in enumerate(zip(d.scores, d.labels, strict=True))
        if c == label
    ]
    taken: set[tuple[int, int | None]] = set()
    hits, misses, curve = 0, 0, []
    for _, image, place in sorted(rows):
        best, at = -1.0, None
        for g, box in enumerate(objects[image].boxes):
            overlap = plain.iou(detections[image].boxes[place], box)
            if objects[image].labels[g] == label and overlap > best:
                best, at = overlap, g
        if best >= 0.5:
            if not objects[image].difficult[at]:
                again = (image, at) in taken
                hits, misses = hits + (not again), misses + again
                taken.add((image, at))
        else:
            misses += 1
        if hits + misses:
            curve.append((Fraction(hits, total), Fraction(hits, hits + misses)))
    if points == "11point":
        tenths = [Fraction(k, 10) for k in range(11)]
        best_at = [max((p for r, p in curve if r >= t), default=0) for t in tenths]
        return float(sum(best_at)) / 11
    steps = sorted({r for r, _ in curve if r > 0})
    before = [Fraction(0), *steps]
    return float(
        sum(
            (r - b) * max(p for q, p in curve if q >= r)
            for b, r in zip(before, steps, strict=False)
        )
    )


@pytest.mark.parametrize("points", ["11point", "area"])
@pytest.mark.parametrize("seed", range(5))
def test_random_images_equal_the_devkits_definition(seed, points):
    rng = np.random.default_rng(seed)
    detections, objects = [], []
    for _ in range(8):
        boxes = plain.random_boxes(rng, rng.integers(0, 6))
        count = len(boxes)
        objects.append(
            Objects(boxes, rng.integers(0, 3, count), rng.random(count) < 0.25)
        )
        near = np.concatenate([boxes, boxes, plain.random_boxes(rng, 4)])
        near = (near + rng.uniform(-5, 5, near.shape)).astype(np.float32)
        labels = np.concatenate([objects[-1].labels] * 2 + [rng.integers(0, 4, 4)])
        # Few different scores, so that the order of equals matters.
        detections.append(Detections(near, rng.integers(0, 9, len(near)) / 8, labels))
    got = voc_map(detections, objects, 4, points=points)
    want = [devkit(detections, objects, label, points) for label in range(4)]
    assert want[3] is None and None not in want[:3]
    np.testing.assert_allclose(got.classes, [*want[:3], np.nan], rtol=1e-12)
    assert got.mean == pytest.approx(sum(want[:3]) / 3)
    assert 0.1 < got.mean < 0.9


@pytest.mark.parametrize(
    ("detections", "objects", "eleven", "area"),
    [
        # Right at once: precision 1 at every recall.
        ([(A, 0.9, 0)], [(A, 0)], 1, 1),
        # Wrong, then right: precision 1/2 at every recall.
        ([(FAR, 0.9, 0), (A, 0.8, 0)], [(A, 0)], 1 / 2, 1 / 2),
        # One of two objects: precision 1 up to recall 1/2, six of eleven points.
        ([(A, 0.9, 0)], [(A, 0), (B, 0)], 6 / 11, 1 / 2),
        # The second detection of an object is wrong: right, wrong, right gives
        # precision 1 up to 1/2 and 2/3 up to 1.
        (
            [(A, 0.9, 0), (A, 0.8, 0), (B, 0.7, 0)],
            [(A, 0), (B, 0)],
            (6 + 5 * 2 / 3) / 11,
            (1 + 2 / 3) / 2,
        ),
        # A difficult object is no error, found once or twice, and is not missed.
        (
            [(B, 0.9, 0), (B, 0.8, 0), (A, 0.7, 0)],
            [(A, 0), (B, 0, True), (FAR, 0, True)],
            1,
            1,
        ),
        # Another class in the same place is wrong.
        ([(A, 0.9, 0), (B, 0.8, 0)], [(B, 0), (A, 1)], 1 / 2, 1 / 2),
        # An overlap of exactly 1/2 is enough, one below is not.
        ([([0, 0, 10, 5], 0.9, 0)], [(A, 0)], 1, 1),
        ([([0, 0, 10, 4.9], 0.9, 0)], [(A, 0)], 0, 0),
        # It looks at the object it overlaps most only, even if that is taken.
        ([(A, 0.9, 0), ([1, 0, 11, 10], 0.8, 0)], [(A, 0), ([3, 0, 13, 10], 0)],
         6 / 11, 1 / 2),
        # No detections.
        ([], [(A, 0)], 0, 0),
    ],
)  # fmt: skip
def test_one_image_worked_by_hand(detections, objects, eleven, area):
    image, truth = [found(*detections)], [there(*objects)]
    got = voc_map(image, truth, 2, points="11point").classes[0]
    assert got == pytest.approx(eleven)
    got = voc_map(image, truth, 2, points="area").classes[0]
    assert got == pytest.approx(area)


def test_recall_of_exactly_three_tenths_counts_as_three_tenths():
    objects = [there(*((np.array(A) + 20 * k, 0) for k in range(10)))]
    detections = [found(*((np.array(A) + 20 * k, 0.9, 0) for k in range(3)))]
    # Precision 1 at recalls 0, 0.1, 0.2 and 0.3, and 0 at the other seven points.
    assert voc_map(detections, objects, 1).mean == pytest.approx(4 / 11)


def test_an_object_is_found_in_its_own_image_only():
    got = voc_map(
        [found((B, 0.9, 0)), found((A, 0.8, 0))], [there((A, 0)), there((A, 0))], 1
    )
    # Wrong, right: precision 1/2 up to recall 1/2.
    assert got.mean == pytest.approx(6 * 0.5 / 11)


def test_of_equal_scores_the_earlier_image_and_detection_come_first():
    objects = [there((A, 0)), there()]
    right, wrong = found((A, 0.5, 0)), found((FAR, 0.5, 0))
    assert voc_map([right, wrong], objects, 1, points="area").mean == 1
    assert voc_map([wrong, right], objects[::-1], 1, points="area").mean == 0.5
    both = found((FAR, 0.5, 0), (A, 0.5, 0))
    assert voc_map([both, found()], objects, 1, points="area").mean == 0.5


def test_classes_without_objects_to_find_are_left_out_of_the_mean():
    detections = [found((A, 0.9, 0), (FAR, 0.9, 2), (FAR, 0.9, 3))]
    objects = [there((A, 0), (A, 1), (FAR, 3, True))]
    got = voc_map(detections, objects, 4)
    np.testing.assert_array_equal(got.classes, [1, 0, np.nan, np.nan])
    assert got.mean == 0.5


@pytest.mark.parametrize(
    ("detections", "objects", "message"),
    [
        ([found()], [there((A, 0)), there()], "of 1 images, objects of 2"),
        ([found((A, 0.9, 2))], [there((A, 0))], r"classes \[2\]; allowed: 0 to 1"),
        ([found()], [there((A, -1))], r"objects of image 0 have classes \[-1\]"),
        ([found((A, np.nan, 0))], [there((A, 0))], "image 0 have a score that is NaN"),
        ([found()], [there((A, 0, True))], "none of 1 images holds an object"),
        (
            [Detections(np.zeros((2, 4)), np.zeros(1), np.zeros(2, int))],
            [there((A, 0))],
            r"shapes \[\(2, 4\), \(1,\), \(2,\)\]; allowed",
        ),
    ],
)
def test_input_that_does_not_fit_is_named(detections, objects, message):
    with pytest.raises(DataError, match=message):
        voc_map(detections, objects, 2)
