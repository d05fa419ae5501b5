"""Annotations of Pascal VOC: one XML file an image."""

import math
import xml.etree.ElementTree as ElementTree
from xml.etree.ElementTree import Element

from rtj.transfer.detection.objects import Object
from rtj.transfer.examples import Size, unusable

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
    *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant"),
    *("sheep", "sofa", "train", "tvmonitor"),
)


def parse(data: bytes, example_id: str) -> tuple[list[Object], Size | None]:
    """The objects, and (height, width) of the image if the file gives it.

    VOC counts pixels from 1 and names a box's first and last one: (xmin, ymin, xmax,
    ymax) is (xmin - 1, ymin - 1, xmax, ymax) here. A number that is missing or none is
    NaN, a missing class ''. Two annotations of VOC 2012 have fractions, which stay.

    Raises UnusableExample, naming the example, for what is no such XML.
    """
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise unusable(
            example_id, f"its annotation cannot be parsed: {error}"
        ) from error
    if root.tag != "annotation":
        raise unusable(
            example_id,
            f"its annotation is <{root.tag}>; allowed: Pascal VOC's <annotation>",
        )
    return [_object(item) for item in root.findall("object")], _size(root)


def _size(root: Element) -> Size | None:
    height, width = _number(root, "size/height"), _number(root, "size/width")
    if math.isnan(height) or math.isnan(width):
        return None
    return round(height), round(width)


def _object(item: Element) -> Object:
    xmin, ymin, xmax, ymax = (
        _number(item, f"bndbox/{corner}") for corner in ("xmin", "ymin", "xmax", "ymax")
    )
    name = (item.findtext("name") or "").strip()
    difficult = (item.findtext("difficult") or "").strip() in ("1", "true", "True")
    return Object((xmin - 1, ymin - 1, xmax, ymax), name, difficult)


def _number(element: Element, path: str) -> float:
    try:
        value = float(element.findtext(path) or "")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
