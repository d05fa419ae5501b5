"""Detections of a whole data set, gathered on the host and scored."""

from typing import Any

import numpy as np

from rtj.data.bad_images import as_data_error
from rtj.errors import ConfigError
from rtj.task import check_counted
from rtj.transfer.detection.coco_map import coco_map
from rtj.transfer.detection.voc_map import Detections, Objects, Points, voc_map

METRICS = ("11point", "area", "coco")


class DetectionScores:
    """Keeps each image's detections; objects are read from the source at the end.

    Args:
        source: a `rtj.transfer.detection.sources.BoxSource`.
        metric: `11point` (VOC 2007) or `area` (VOC 2010), at an overlap of 0.5, or
            `coco`, the mean over overlaps of 0.5 to 0.95.
    """

    def __init__(self, source: Any, metric: str) -> None:
        if metric not in METRICS:
            raise ConfigError(
                f"detection.metric={metric!r}; allowed: {' | '.join(METRICS)}"
            )
        self._source, self._metric = source, metric
        self._found: dict[int, Detections] = {}
        self._skipped: set[int] = set()

    def add(self, part: dict[str, np.ndarray]) -> None:
        """Takes what `rtj.transfer.detection.inference.detect` gives.

        An example that cannot be decoded has `valid` False.
        """
        for row, index in enumerate(part["index"].tolist()):
            if index < 0:
                continue
            if index in self._found or index in self._skipped:
                raise RuntimeError(f"example {index} was evaluated twice")
            if not part["valid"][row]:
                self._skipped.add(index)
                continue
            mask = part["mask"][row]
            self._found[index] = Detections(
                *(part[key][row][mask] for key in ("boxes", "scores", "labels"))
            )

    def result(self) -> dict[str, float]:
        """`map`, a fraction of 1 (with `coco` also `map50`), and `examples`.

        Raises:
            RuntimeError: the counted examples are not the data set's.
            DataError: no image has an object.
        """
        examples, skipped = len(self._found), len(self._skipped)
        check_counted(examples, skipped, len(self._source))
        order = sorted(self._found)
        detections = [self._found[index] for index in order]
        objects = [self._objects(index) for index in order]
        return self._score(detections, objects) | {"examples": examples}

    def _score(
        self, detections: list[Detections], objects: list[Objects]
    ) -> dict[str, float]:
        classes = self._source.num_classes
        if self._metric == "coco":
            scores = coco_map(detections, objects, classes)
            return {"map": scores.ap, "map50": scores.ap50}
        points: Points = "11point" if self._metric == "11point" else "area"
        return {"map": voc_map(detections, objects, classes, points=points).mean}

    def _objects(self, index: int) -> Objects:
        with as_data_error(self._source.name, index):
            example = self._source[index]
        return Objects(example["boxes"], example["labels"], example["difficult"])
