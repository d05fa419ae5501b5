"""COCO's mean average precision, by pycocotools; needs the extra `coco`.

Average precision is the mean over 101 recalls 0, 0.01 ... 1 of the best precision at
that recall or more; it is averaged over the classes that have an object and over the
overlaps (IoU) 0.5, 0.55 ... 0.95. As in COCO's own numbers the 100 best detections of
an image and class count. Other than in VOC's rule (`voc_map`) a detection whose nearest
object is taken looks for another one that it overlaps enough.

A difficult object is what COCO calls a crowd (`iscrowd`): it need not be found, and a
detection of it counts neither as right nor as wrong, be it the first of it or not. To a
crowd the overlap is the part of the detection that lies inside, so a small detection
inside a difficult object is forgiven here and wrong by VOC's rule.

Small, medium and large objects have an area of up to 32^2, 32^2 to 96^2 and 96^2 or
more square pixels; of exactly 32^2 an object is both. The area is the box's. COCO's
published numbers take that of an object's mask, which is smaller, so on COCO itself
these three differ somewhat from those of others.

In the wild: mmdetection's converter of VOC makes a crowd of a difficult object too;
Detectron's files say `ignore`, which pycocotools overwrites, so that it counts.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rtj.errors import ConfigError
from rtj.transfer.detection.voc_map import (
    Detections,
    Objects,
    check_lists,
    no_objects,
)

if TYPE_CHECKING:
    from pycocotools.coco import COCO

_AREAS = {"all": 0, "small": 1, "medium": 2, "large": 3}  # as pycocotools has them
_BEST_100 = 2  # of 1, 10 and 100 detections
_AT_50, _AT_75 = 0, 5  # of the ten overlaps


@dataclass(frozen=True)
class CocoScores:
    """In [0, 1]; NaN where there is no object to be found.

    Attributes:
        ap: the mean over classes and overlaps 0.5 to 0.95, COCO's main number.
        ap50: at an overlap of 0.5.
        ap75: at an overlap of 0.75.
        small: as `ap`, of objects of up to 32^2 square pixels.
        medium: as `ap`, of objects of 32^2 to 96^2.
        large: as `ap`, of objects of 96^2 and more.
        classes: (num_classes,) float64, `ap` of each class.
    """

    ap: float
    ap50: float
    ap75: float
    small: float
    medium: float
    large: float
    classes: np.ndarray


def coco_map(
    detections: Sequence[Detections], objects: Sequence[Objects], num_classes: int
) -> CocoScores:
    """COCO's scores of `detections` against `objects`, two lists with an item an image.

    Args:
        detections: unpadded; any order, of equal scores the earlier one first.
        objects: unpadded, boxes as in `rtj.transfer.detection.boxes`, in pixels of the
            original image.
        num_classes: classes are 0 to num_classes - 1.

    Raises:
        ConfigError: pycocotools is not installed.
        DataError: see `voc_map`.
    """
    check_lists(detections, objects, num_classes)
    precision = _precision(detections, objects, num_classes)
    # -1 is pycocotools' word for a class without an object of this size.
    known = np.where(precision > -1, precision, np.nan)
    if np.isnan(known).all():
        raise no_objects(len(objects))
    of_all = known[..., _AREAS["all"]]
    return CocoScores(
        ap=_mean(of_all),
        ap50=_mean(of_all[_AT_50]),
        ap75=_mean(of_all[_AT_75]),
        small=_mean(known[..., _AREAS["small"]]),
        medium=_mean(known[..., _AREAS["medium"]]),
        large=_mean(known[..., _AREAS["large"]]),
        classes=np.array([_mean(of_all[:, :, k]) for k in range(num_classes)]),
    )


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _precision(
    detections: Sequence[Detections], objects: Sequence[Objects], num_classes: int
) -> np.ndarray:
    """(10 overlaps, 101 recalls, classes, 4 areas) float64, -1 where undefined."""
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ConfigError(
            "COCO's mAP needs pycocotools, which is not installed: "
            "pip install 'rtj[coco]'"
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):  # it reports each step
        truth = _dataset([_annotations(there) for there in objects], num_classes)
        guess = _dataset([_annotations(found) for found in detections], num_classes)
        evaluator = COCOeval(truth, guess, "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"][..., _BEST_100]


def _annotations(part: Detections | Objects) -> list[dict[str, Any]]:
    """Of one image: box as x, y, width and height; area, class, score or crowd."""
    boxes = np.asarray(part.boxes, np.float64)
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    values = {
        "bbox": np.concatenate([boxes[:, :2], sides], axis=1).tolist(),
        "area": sides.prod(axis=1).tolist(),
        "category_id": np.asarray(part.labels, int).tolist(),
    }
    if isinstance(part, Detections):
        values["score"] = np.asarray(part.scores, np.float64).tolist()
    else:
        values["iscrowd"] = np.asarray(part.difficult, int).tolist()
    return [
        dict(zip(values, row, strict=True))
        for row in zip(*values.values(), strict=True)
    ]


def _dataset(images: Sequence[list[dict[str, Any]]], num_classes: int) -> "COCO":
    from pycocotools.coco import COCO

    annotations: list[dict[str, Any]] = []
    for image, found in enumerate(images):
        for annotation in found:
            # From 1: to pycocotools a match with number 0 is none.
            number = len(annotations) + 1
            annotations.append(annotation | {"id": number, "image_id": image})
    coco = COCO()
    coco.dataset = {
        "images": [{"id": image} for image in range(len(images))],
        "categories": [{"id": label} for label in range(num_classes)],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco
