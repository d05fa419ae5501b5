"""The objects of an image as its annotation gives them, and what is left of them.

Boxes that cannot be trained on or scored are left out, each with its reason, and the
image stays; an image without objects is a legal example.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypedDict

import numpy as np

from rtj.transfer.examples import Noted, Size, SizedSource

# Some tools count pixels from 0 where VOC counts from 1; cutting that much off a box
# is nothing to report.
_SILENT_CUT = 1.0


class BoxExample(TypedDict):
    """An image and its n objects, 0 or more.

    Attributes:
        image: encoded bytes, or a uint8 (H, W, 3) array, RGB.
        boxes: float32 (n, 4), x1, y1, x2, y2 in pixels of the image, continuous as in
            `rtj.transfer.detection.boxes`; 0 <= x1 < x2 <= W, and y alike.
        labels: int32 (n,), 0 to num_classes - 1.
        difficult: bool (n,), objects that evaluation counts neither way.
        id: names the example.
    """

    image: bytes | np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    id: str


BoxSource = SizedSource[BoxExample]


class Object(NamedTuple):
    """As annotated: (x1, y1, x2, y2) continuous pixels, NaN where unreadable."""

    box: tuple[float, float, float, float]
    class_name: str
    difficult: bool


@dataclass(frozen=True)
class Faults:
    """What was mended in the examples of a source, counted; see `Noted`.

    Attributes:
        dropped: objects left out.
        clipped: boxes cut at the edge of their image by more than a pixel.
        sizes: annotations whose size of the image is another than the image's own.
    """

    name: str
    dropped: Noted = field(init=False)
    clipped: Noted = field(init=False)
    sizes: Noted = field(init=False)

    def __post_init__(self) -> None:
        for key, what in (
            ("dropped", "objects left out"),
            ("clipped", "boxes cut to their image"),
            ("sizes", "sizes in annotations ignored"),
        ):
            object.__setattr__(self, key, Noted(self.name, what))


def make_example(
    image: bytes | np.ndarray,
    size: Size,
    objects: Sequence[Object],
    class_names: tuple[str, ...],
    example_id: str,
    faults: Faults,
) -> BoxExample:
    """An example of the objects that make sense, with their boxes cut to the image.

    Args:
        size: (height, width) of the image itself.
        faults: gets the objects left out and the boxes cut.
    """
    kept: list[tuple[float, ...]] = []
    labels, difficult = [], []
    for number, item in enumerate(objects):
        box, fault = _clip(item.box, size)
        if item.class_name not in class_names:
            fault = f"class {item.class_name!r} is none of the data set's"
        if fault:
            faults.dropped.add(example_id, number, f"object {number}: {fault}")
            continue
        cut = max(abs(a - b) for a, b in zip(box, item.box, strict=True))
        if cut > _SILENT_CUT:
            fault = f"object {number}: {_text(item.box)} in {size[1]} x {size[0]}"
            faults.clipped.add(example_id, number, fault)
        kept.append(box)
        labels.append(class_names.index(item.class_name))
        difficult.append(item.difficult)
    return {
        "image": image,
        "boxes": np.asarray(kept, np.float32).reshape(-1, 4),
        "labels": np.asarray(labels, np.int32),
        "difficult": np.asarray(difficult, bool),
        "id": example_id,
    }


def _clip(box: tuple[float, ...], size: Size) -> tuple[tuple[float, ...], str]:
    """`box` cut to the image, and what is wrong with it: '' for nothing."""
    x1, y1, x2, y2 = box
    height, width = size
    if not all(map(math.isfinite, box)):
        return box, f"box {_text(box)} is not four numbers"
    if x2 <= x1 or y2 <= y1:
        return box, f"box {_text(box)} has no area"
    left, right = max(x1, 0.0), min(x2, float(width))
    top, bottom = max(y1, 0.0), min(y2, float(height))
    # As float32, in which boxes are kept.
    low, high = np.array([[left, top], [right, bottom]], np.float32)
    if (high <= low).any():
        return box, f"box {_text(box)} is outside the {width} x {height} image"
    return (left, top, right, bottom), ""


def _text(box: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in box) + ")"
