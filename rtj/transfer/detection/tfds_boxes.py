"""Boxes of TFDS data sets, without TensorFlow.

The features are 'image' and 'objects', a sequence of 'label' (a ClassLabel) and 'bbox',
with 'is_difficult' or 'is_crowd' if the data set has it; a crowd, like a difficult
object, counts neither way.

TFDS's boxes are ymin, xmin, ymax, xmax, divided by the image's height and width, as
float32. For most data sets they are continuous. For `voc` they are the whole numbers
of VOC's files divided by the size there, which come back exactly.
"""

from typing import Any

import numpy as np

from rtj.errors import DataError
from rtj.transfer.detection.annotated import Annotated, AnnotatedSource
from rtj.transfer.detection.objects import BoxExample, Object
from rtj.transfer.examples import Size, SizedSource, image_size
from rtj.transfer.parts import Joined
from rtj.transfer.tfds_records import Records, open_builder

_VOC = "voc"
_INSTEAD = "give folders in the layout of Pascal VOC as folder:PATH"
_IGNORED_OBJECTS = ("is_difficult", "is_crowd")
# TFDS keeps VOC's trainval as two splits.
_VOC_SPLITS = {
    "train": [("voc/2007", "train+validation"), ("voc/2012", "train+validation")],
    "test": [("voc/2007", "test")],
}


def splits(text: str, name: str, data_dir: str = "") -> list[str]:
    """The splits of a prepared TFDS data set; DataError if it is not prepared."""
    return list(open_builder(text, data_dir, name, _INSTEAD).info.splits)


def open_voc(split: str, name: str, data_dir: str = "") -> SizedSource[BoxExample]:
    """'train' is trainval of 2007 and of 2012, 'test' is 2007's test.

    Raises:
        DataError: another split, or a year that is not prepared.
    """
    if split not in _VOC_SPLITS:
        raise DataError(
            f"{name}: there is no split {split!r}; allowed are "
            f"{', '.join(_VOC_SPLITS)} and parts of them such as train[:10%]"
        )
    parts = _VOC_SPLITS[split]
    return Joined([open_tfds(*part, name, data_dir) for part in parts], name)


def open_tfds(text: str, split: str, name: str, data_dir: str = "") -> AnnotatedSource:
    """One split of a prepared TFDS data set.

    Args:
        text: NAME[/CONFIG][:VERSION].
        split: TFDS's split string.
        name: of the source, for messages.
        data_dir: the TFDS data dir; '' means $TFDS_DATA_DIR or TFDS's default.

    Raises:
        DataError: not prepared, no such split, no such features.
    """
    builder = open_builder(text, data_dir, name, _INSTEAD)
    store = TfdsBoxes(builder, split, name)
    return AnnotatedSource(store, store.class_names, name)


class TfdsBoxes:
    """The records of one split, as a `Store`."""

    def __init__(self, builder: Any, split: str, name: str) -> None:
        self._records = Records(builder, split, name, ["image"])
        objects: Any = self._records.features.get("objects")
        inner = list(objects.keys()) if hasattr(objects, "keys") else []
        if not {"label", "bbox"} <= {*inner}:
            raise DataError(
                f"{name}: for boxes a data set has a feature 'objects' with 'label' and"
                f" 'bbox'; this one has {sorted(self._records.features)}"
            )
        self.class_names = tuple(objects["label"].names)
        self._ignored = next((key for key in _IGNORED_OBJECTS if key in inner), None)
        self._pixels = voc_pixels if builder.name == _VOC else _continuous

    def __len__(self) -> int:
        return len(self._records)

    def read(self, index: int, /) -> Annotated:
        """The image and its objects."""
        record, example_id = self._records[index]
        image, objects = record["image"], record["objects"]
        count = len(objects["label"])
        boxes = np.asarray(objects["bbox"], np.float64).reshape(count, 4)
        boxes = self._pixels(boxes, image_size(image, example_id))
        ignored = objects[self._ignored] if self._ignored else [False] * count
        return Annotated(
            image,
            [
                Object((x1, y1, x2, y2), self._class_name(int(label)), bool(is_ignored))
                for (x1, y1, x2, y2), label, is_ignored in zip(
                    boxes.tolist(), objects["label"], ignored, strict=True
                )
            ],
            None,
            example_id,
        )

    def _class_name(self, label: int) -> str:
        known = 0 <= label < len(self.class_names)
        return self.class_names[label] if known else str(label)

    def size(self, index: int, /) -> Size:
        """(height, width) of the image."""
        record, example_id = self._records[index]
        return image_size(record["image"], example_id)


def _continuous(boxes: np.ndarray, size: Size) -> np.ndarray:
    """(n, 4) of TFDS to x1, y1, x2, y2 in pixels."""
    height, width = size
    return (boxes * [height, width, height, width])[:, [1, 0, 3, 2]]


def voc_pixels(boxes: np.ndarray, size: Size) -> np.ndarray:
    """(n, 4) of TFDS's `voc` to x1, y1, x2, y2: VOC's xmin - 1, ymin - 1, xmax, ymax.

    VOC's whole numbers come back exactly: what float32 has rounded off a fraction of a
    side of s pixels is at most s / 2^25, and whole numbers are 1 apart. The fractions
    in 2011_003353 and 2011_006777 of VOC 2012 stay, to that precision.
    """
    pixels = _continuous(boxes, size)
    whole = np.rint(pixels)
    rounding = max(size) * 2.0**-24
    pixels = np.where(np.abs(pixels - whole) <= rounding, whole, pixels)
    return pixels - [1, 1, 0, 0]
