"""An example of a source to a record of a TFDS data set."""

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from rtj.data.examples import Example, Source
from rtj.data.prepare import tfds_writer
from rtj.data.prepare.array_record_file import Record
from rtj.data.prepare.reencode import Reencoding, reencode
from rtj.data.prepare.target import IMAGENET
from rtj.errors import DataError
from rtj.labels import imagenet_ids

MakeRecord = Callable[[Example], Record]


def id_feature(name: str) -> str:
    """The feature that holds the ids of a data set of this name."""
    return "file_name" if name == IMAGENET else "id"


def class_names(opened: Mapping[str, Source], name: str) -> list[str]:
    """Names of the classes of all splits: the source's own, else '0', '1', ...

    For `imagenet2012` they must be the 1,000 WordNet ids in order; labels of a source
    without names are taken as numbers of these.

    Raises:
        DataError: splits differ, or the classes are not ImageNet's.
    """
    first = next(iter(opened.values()))
    named = list(getattr(first, "class_names", ()))
    for part in opened.values():
        own = list(getattr(part, "class_names", ()))
        if part.num_classes != first.num_classes or own != named:
            raise DataError(f"{part.name}: its splits have not the same classes")
    if name != IMAGENET:
        return named or [str(label) for label in range(first.num_classes)]
    wanted = list(imagenet_ids())
    if first.num_classes != len(wanted):
        raise DataError(
            f"{first.name} has {first.num_classes} classes and {IMAGENET} has "
            f"{len(wanted)}; give a part of ImageNet another --name"
        )
    for found, right in zip(named or wanted, wanted, strict=True):
        if found != right:
            raise DataError(
                f"{first.name}: the class {found!r} stands where {IMAGENET} has "
                f"{right!r}; its classes are the WordNet ids in sorted order. Rename "
                "the folder, or give another --name"
            )
    return wanted


def record_maker(
    names: list[str], id_name: str, how: Reencoding | None
) -> tuple[object, MakeRecord]:
    """The features of the data set, and what makes its records, thread-safe.

    Args:
        names: of the classes.
        id_name: the feature that holds the id; as `file_name` it has no folders.
        how: to re-encode images; an image that cannot be decoded is kept.
    """
    features = tfds_writer.features(names, id_name)
    serialize = tfds_writer.serializer(features, id_name)

    def make(example: Example) -> Record:
        before = encoded(example["image"])
        after, undecodable = before, ""
        if how is not None:
            try:
                after = reencode(before, how)
            except DataError:
                undecodable = example["id"]
        name = example["id"]
        if id_name == "file_name":
            name = base_name(name)
        data = serialize(after, example["label"], name)
        return Record(data, after is not before, undecodable)

    return features, make


def base_name(example_id: str) -> str:
    """`train/n01440764/n01440764_18.JPEG` or `x.tar:n01440764_18` without the front."""
    return example_id.rsplit("/", 1)[-1].rsplit(":", 1)[-1]


def encoded(image: bytes | np.ndarray) -> bytes:
    """Encoded bytes as they are; a uint8 (H, W, 1|3) array as PNG."""
    if isinstance(image, bytes):
        return image
    buffer = io.BytesIO()
    pixels = image[:, :, 0] if image.shape[2] == 1 else image
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
