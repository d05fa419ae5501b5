"""Mean average precision (mAP) of Pascal VOC, in NumPy on the host.

A class's detections of all images are taken by falling score. Each looks at the object
of its class and image that it overlaps most: with an IoU of 0.5 or more it is right if
it is the first to find that object and wrong if it is not; a difficult object counts
neither way, and any other detection is wrong. (VOC's devkit, `VOCevaldet.m`.)
Precision after each detection is right / (right + wrong), recall is right / objects
that are not difficult, and average precision sums it up:

- `11point` (VOC 2007 to 2009, and what the paper and gluon-cv report): the mean over
  recalls 0, 0.1 ... 1 of the best precision at that recall or more;
- `area` (from 2010): the area under precision made monotone from the right.

A class without an object (or with difficult ones only) has no recall; it is left out of
the mean, as NaN, like in gluon-cv. A class with objects and no detection has 0.

Of equal scores the earlier image comes first, then the earlier detection in it, the
devkit's stable sort. Recalls are compared with tenths as whole numbers; the devkit and
gluon-cv compare 3/10 with a float a little above 0.3, so that they miss a tenth that
is met exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from rtj.errors import DataError

Points = Literal["11point", "area"]


class Detections(NamedTuple):
    """Of one image: (D, 4) boxes, (D,) scores and (D,) classes."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray


class Objects(NamedTuple):
    """Of one image: (G, 4) boxes, (G,) classes and (G,) bool, whether difficult."""

    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray


@dataclass(frozen=True)
class MeanAveragePrecision:
    """The mean, in [0, 1], and each class's average precision, NaN where left out."""

    mean: float
    classes: np.ndarray


def voc_map(
    detections: Sequence[Detections],
    objects: Sequence[Objects],
    num_classes: int,
    *,
    threshold: float = 0.5,
    points: Points = "11point",
) -> MeanAveragePrecision:
    """mAP of `detections` against `objects`, two lists with an item an image.

    Args:
        detections: unpadded; any order.
        objects: unpadded, boxes as in `rtj.transfer.detection.boxes`.
        num_classes: classes are 0 to num_classes - 1.
        threshold: smallest overlap (IoU) of a right detection.
        points: see above.

    Raises:
        DataError: the lists differ in length, an image's arrays do not fit together,
            a class is out of range, a score is NaN, or there is no object at all.
    """
    check_lists(detections, objects, num_classes)
    classes = np.full(num_classes, np.nan)
    for label in range(num_classes):
        scores, right, wrong, total = _judge_class(
            detections, objects, label, threshold
        )
        if total:
            order = np.argsort(-scores, kind="stable")
            classes[label] = average_precision(
                right[order], wrong[order], total, points
            )
    if np.isnan(classes).all():
        raise no_objects(len(objects))
    return MeanAveragePrecision(float(np.nanmean(classes)), classes)


def average_precision(
    right: np.ndarray, wrong: np.ndarray, total: int, points: Points
) -> float:
    """Of one class's detections, best first, and `total` > 0 objects to be found.

    `right` and `wrong` are (D,) bool; a detection may be neither.
    """
    hits = np.cumsum(right, dtype=np.int64)
    judged = hits + np.cumsum(wrong, dtype=np.int64)
    precision = hits / np.maximum(judged, 1)
    # The best precision at this recall or a larger one.
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    if points == "11point":
        first = np.searchsorted(10 * hits, np.arange(11) * total)
        return float(np.append(precision, 0.0)[first].sum() / 11)
    return float(precision[np.asarray(right, bool)].sum() / total)


def _judge_class(
    detections: Sequence[Detections],
    objects: Sequence[Objects],
    label: int,
    threshold: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Scores, right and wrong of a class's detections; how many are to be found."""
    rows, total = [(np.empty(0), np.empty(0, bool), np.empty(0, bool))], 0
    for found, there in zip(detections, objects, strict=True):
        mine, theirs = (np.asarray(part.labels) == label for part in (found, there))
        difficult = np.asarray(there.difficult, bool)[theirs]
        total += int((~difficult).sum())
        scores = np.asarray(found.scores, np.float64)[mine]
        if scores.size:
            judged = _judge_image(
                np.asarray(found.boxes)[mine],
                scores,
                np.asarray(there.boxes)[theirs],
                difficult,
                threshold,
            )
            rows.append((scores, *judged))
    scores, right, wrong = (
        np.concatenate(column) for column in zip(*rows, strict=True)
    )
    return scores, right, wrong, total


def _judge_image(
    boxes: np.ndarray,
    scores: np.ndarray,
    objects: np.ndarray,
    difficult: np.ndarray,
    threshold: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Which of an image's (D, 4) detections are right and which wrong, (D,) each."""
    right, wrong = np.zeros(len(boxes), bool), np.ones(len(boxes), bool)
    if not len(objects):
        return right, wrong
    overlap = _iou(boxes, objects)
    nearest, largest = overlap.argmax(axis=1), overlap.max(axis=1)
    taken = np.zeros(len(objects), bool)
    for i in np.argsort(-scores, kind="stable"):
        if largest[i] < threshold:
            continue
        right[i] = not (difficult[nearest[i]] or taken[nearest[i]])
        wrong[i] = not (difficult[nearest[i]] or right[i])
        taken[nearest[i]] = True
    return right, wrong


def _iou(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """(D, 4) and (G, 4) to (D, G) float64, 0 where neither has an area."""
    first = np.asarray(boxes, np.float64)[:, None]
    second = np.asarray(objects, np.float64)

    def area(low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return np.maximum(high - low, 0).prod(axis=-1)

    common = area(
        np.maximum(first[..., :2], second[..., :2]),
        np.minimum(first[..., 2:], second[..., 2:]),
    )
    areas = area(first[..., :2], first[..., 2:]) + area(second[:, :2], second[:, 2:])
    return common / np.where(common > 0, areas - common, 1)


def no_objects(images: int) -> DataError:
    """The error where nothing is to be found."""
    return DataError(
        f"none of {images} images holds an object that is not difficult; "
        "mAP needs at least one"
    )


def check_lists(
    detections: Sequence[Detections], objects: Sequence[Objects], num_classes: int
) -> None:
    """Raise DataError for lists that `voc_map` does not take; see there."""
    if len(detections) != len(objects):
        raise DataError(
            f"detections of {len(detections)} images, objects of {len(objects)}; "
            "allowed: as many"
        )
    for image, (found, there) in enumerate(zip(detections, objects, strict=True)):
        parts: tuple[tuple[str, Detections | Objects], ...]
        parts = (("detections", found), ("objects", there))
        for name, part in parts:
            count = len(part.boxes)
            shapes = [np.shape(array) for array in part]
            if shapes != [(count, 4), (count,), (count,)]:
                raise DataError(
                    f"{name} of image {image} have shapes {shapes}; allowed: (n, 4), "
                    "(n,) and (n,)"
                )
            labels = np.asarray(part.labels)
            if not ((labels >= 0) & (labels < num_classes)).all():
                raise DataError(
                    f"{name} of image {image} have classes {labels.tolist()}; "
                    f"allowed: 0 to {num_classes - 1}"
                )
        if np.isnan(found.scores).any():
            raise DataError(f"detections of image {image} have a score that is NaN")
