"""COCO's mAP: cases worked by hand, and its definition in loops."""

import builtins
import math

import numpy as np
import pytest

from rtj.errors import ConfigError, DataError
from rtj.transfer.detection.coco_map import coco_map
from rtj.transfer.detection.voc_map import Detections, Objects, voc_map
from tests.transfer.detection import plain
from tests.transfer.detection.scenes import found, there

A, B, FAR = [0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60]
OVERLAPS = [(50 + 5 * step) / 100 for step in range(10)]


@pytest.mark.parametrize(
    ("detections", "objects", "ap50"),
    [
        # Right at once: precision 1 at every recall.
        ([(A, 0.9, 0)], [(A, 0)], 1),
        # Wrong, then right: precision 1/2 at every recall.
        ([(FAR, 0.9, 0), (A, 0.8, 0)], [(A, 0)], 1 / 2),
        # One of two objects: precision 1 at recalls 0 to 0.5, 51 of 101.
        ([(A, 0.9, 0)], [(A, 0), (B, 0)], 51 / 101),
        # Right, wrong, right: 1 at 51 recalls and 2/3 at 50.
        (
            [(A, 0.9, 0), (A, 0.8, 0), (B, 0.7, 0)],
            [(A, 0), (B, 0)],
            (51 + 50 * 2 / 3) / 101,
        ),
        # A difficult object is no error, found once or twice, and is not missed.
        (
            [(B, 0.9, 0), (B, 0.8, 0), (A, 0.7, 0)],
            [(A, 0), (B, 0, True), (FAR, 0, True)],
            1,
        ),
        # Another class in the same place is wrong: 1/2 and 0 of the two classes.
        ([(A, 0.9, 0), (B, 0.8, 0)], [(B, 0), (A, 1)], 1 / 4),
        # Where the nearest object is taken the next one is found.
        ([(A, 0.9, 0), ([1, 0, 11, 10], 0.8, 0)], [(A, 0), ([3, 0, 13, 10], 0)], 1),
        # No detections.
        ([], [(A, 0)], 0),
    ],
)
def test_one_image_worked_by_hand(detections, objects, ap50):
    scores = coco_map([found(*detections)], [there(*objects)], 2)
    assert scores.ap50 == pytest.approx(ap50)


def test_an_overlap_of_0_72_is_enough_for_five_of_the_ten():
    scores = coco_map([found(([0, 0, 10, 7.2], 0.9, 0))], [there((A, 0))], 1)
    assert (scores.ap50, scores.ap75) == pytest.approx((1, 0))
    assert scores.ap == pytest.approx(5 / 10)  # 0.5, 0.55, 0.6, 0.65 and 0.7


def test_a_small_detection_inside_a_difficult_object_is_forgiven_unlike_in_voc():
    objects = [there((A, 0), ([20, 0, 60, 40], 0, True))]
    detections = [found(([30, 10, 35, 15], 0.9, 0), (A, 0.8, 0))]
    assert coco_map(detections, objects, 1).ap50 == pytest.approx(1)
    assert voc_map(detections, objects, 1).mean == pytest.approx(1 / 2)


def test_sizes_are_told_apart_by_the_objects_area():
    small, medium, large = [0, 0, 10, 10], [0, 0, 50, 50], [100, 100, 300, 300]
    objects = [there((small, 0)), there((medium, 0)), there((large, 0))]
    detections = [found((small, 0.9, 0)), found(), found((large, 0.8, 0))]
    scores = coco_map(detections, objects, 1)
    assert (scores.small, scores.medium, scores.large) == pytest.approx((1, 0, 1))
    assert scores.ap == pytest.approx(67 / 101)  # recalls 0 to 0.66
    only = coco_map(detections[:1], objects[:1], 1)
    assert only.small == pytest.approx(1)
    assert math.isnan(only.medium) and math.isnan(only.large)


def test_a_detection_of_another_size_does_not_count_against_a_size():
    objects = [there((A, 0))]
    detections = [found(([0, 0, 200, 200], 0.9, 0), (A, 0.8, 0))]
    scores = coco_map(detections, objects, 1)
    assert (scores.small, scores.ap) == pytest.approx((1, 1 / 2))


def test_classes_without_an_object_to_be_found_are_left_out_of_the_mean():
    objects = [there((A, 1), (B, 2, True))]
    detections = [found((A, 0.9, 1), (B, 0.9, 2), (FAR, 0.9, 0))]
    scores = coco_map(detections, objects, 3)
    np.testing.assert_allclose(scores.classes, [math.nan, 1, math.nan])
    assert scores.ap == pytest.approx(1)


def test_the_hundred_best_of_an_image_and_class_count():
    wrong = [(FAR, 0.9, 0)] * 99
    others = [(FAR, 0.95, 1)] * 50
    objects = [there((A, 0), (FAR, 1))]
    last = coco_map([found(*others, *wrong, (A, 0.5, 0))], objects, 2).classes[0]
    assert last == pytest.approx(1 / 100)
    over = coco_map([found(*others, *wrong, wrong[0], (A, 0.5, 0))], objects, 2)
    assert over.classes[0] == 0


def matches(detections, objects, label, threshold):
    """(-score, image, place, right) of those that are judged, one image at a time."""
    for image, (d, o) in enumerate(zip(detections, objects, strict=True)):
        mine = [place for place in range(len(d.labels)) if d.labels[place] == label]
        taken: set[int] = set()
        for place in sorted(mine, key=lambda p: -d.scores[p]):
            overlaps = {
                g: plain.iou(d.boxes[place], box)
                for g, box in enumerate(o.boxes)
                if o.labels[g] == label and not o.difficult[g] and g not in taken
            }
            best = max(overlaps, key=lambda g: overlaps[g], default=None)
            right = best is not None and overlaps[best] >= threshold
            inside = max(
                plain.common_area(d.boxes[place], box) / plain.area(d.boxes[place])
                for box in [[0] * 4, *o.boxes[o.difficult & (o.labels == label)]]
            )
            if best is not None and right:
                taken.add(best)
            if right or inside < threshold:
                yield -d.scores[place], image, place, right


def average_precision(detections, objects, label, threshold):
    total = sum(int(((o.labels == label) & ~o.difficult).sum()) for o in objects)
    if not total:
        return math.nan
    hits, curve = 0, []
    # As floats, of which the reference's 0.3 is a little above 3 / 10.
    recalls = np.linspace(0, 1, 101)
    judged = sorted(matches(detections, objects, label, threshold), key=lambda m: m[:2])
    for count, (*_, right) in enumerate(judged, start=1):
        hits += right
        curve.append((hits / total, hits / count))
    best = [max((p for r, p in curve if r >= k), default=0) for k in recalls]
    return sum(best) / 101


@pytest.mark.parametrize("seed", range(3))
def test_random_images_equal_the_definition_in_loops(seed):
    rng = np.random.default_rng(seed)
    detections, objects = [], []
    for _ in range(6):
        boxes = plain.random_boxes(rng, rng.integers(1, 6))
        count = len(boxes)
        objects.append(
            Objects(boxes, rng.integers(0, 2, count), rng.random(count) < 0.25)
        )
        near = np.concatenate([boxes, boxes, plain.random_boxes(rng, 4)])
        near = near + rng.uniform(-3, 3, near.shape).astype(np.float32)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        labels = np.concatenate([objects[-1].labels] * 2 + [rng.integers(0, 2, 4)])
        # Few different scores, so that the order of equals matters.
        detections.append(Detections(near, rng.integers(0, 9, len(near)) / 8, labels))
    got = coco_map(detections, objects, 3)
    want = np.array(
        [
            [average_precision(detections, objects, k, overlap) for k in range(3)]
            for overlap in OVERLAPS
        ]
    )
    np.testing.assert_allclose(got.classes, want.mean(axis=0), rtol=1e-9)
    means = (got.ap, got.ap50, got.ap75)
    wanted = (want[:, :2].mean(), want[0, :2].mean(), want[5, :2].mean())
    assert means == pytest.approx(wanted)
    assert 0.1 < got.ap < 0.9


def test_nothing_is_printed(capfd):
    coco_map([found((A, 0.9, 0))], [there((A, 0))], 1)
    assert capfd.readouterr() == ("", "")


def test_bad_lists_are_refused():
    image = found((A, 0.9, 0))
    with pytest.raises(DataError, match="detections of 1 images, objects of 2"):
        coco_map([image], [there((A, 0))] * 2, 1)
    with pytest.raises(DataError, match="allowed: 0 to 0"):
        coco_map([image], [there((A, 1))], 1)
    with pytest.raises(DataError, match="NaN"):
        coco_map([found((A, math.nan, 0))], [there((A, 0))], 1)
    for objects in ([there()], [there((A, 0, True))]):
        with pytest.raises(DataError, match="none of 1 images holds an object"):
            coco_map([image], objects, 1)
    with pytest.raises(DataError, match="none of 0 images"):
        coco_map([], [], 1)


def test_without_pycocotools_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'rtj\[coco\]'"):
        coco_map([found((A, 0.9, 0))], [there((A, 0))], 1)
