"""What the host pipelines of both tasks do with a row of a batch."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

from rtj.data.bad_images import BadImages
from rtj.data.images import UndecodableImage
from rtj.transfer.buckets import Planned, eval_plan
from rtj.transfer.examples import Size, SizedSource, unusable

Loaded = TypeVar("Loaded")


def place(pixels: np.ndarray, out: np.ndarray, fill: int) -> None:
    """Writes an image or a mask into the upper left of `out`, `fill` elsewhere."""
    height, width = pixels.shape[:2]
    out[:height, :width] = pixels
    out[height:] = fill
    out[:height, width:] = fill


def check_size(found: Size, wanted: Size, example_id: str) -> None:
    """Raises UnusableExample if an image is not of the size that its source told."""
    if found != wanted:
        raise unusable(
            example_id,
            f"its image is {found[1]} x {found[0]} pixels; its source said "
            f"{wanted[1]} x {wanted[0]}",
        )


def load_usable(
    load: Callable[[int], Loaded], candidates: Iterator[int], bad: BadImages
) -> tuple[int, Loaded]:
    """The first of endless candidates that can be used, and what `load` makes of it."""
    while True:
        index = next(candidates)
        loaded = load_or_none(load, index, bad)
        if loaded is not None:
            return index, loaded


def load_or_none(
    load: Callable[[int], Loaded], index: int, bad: BadImages
) -> Loaded | None:
    """What `load` makes of an example; None, and counted, if it cannot be used."""
    try:
        return load(index)
    except UndecodableImage as error:
        bad.add(str(index), error)
        return None


def plan_evaluation(
    source: SizedSource[Any],
    batch_size: int,
    shape_of: Callable[[Size], Size],
    bad: BadImages,
) -> list[Planned]:
    """`eval_plan` of a source; of the examples without a size, counted bad, each has a
    row in a batch of the smallest shape, so that every example is in some batch.

    Args:
        batch_size: of the global batch.
        shape_of: the bucket of an image of that size.
    """
    sizes = [load_or_none(source.size, index, bad) for index in range(len(source))]
    shapes = [size and shape_of(size) for size in sizes]
    known = {shape for shape in shapes if shape} or {shape_of((1, 1))}
    least = min(known, key=lambda shape: (shape[0] * shape[1], shape))
    return eval_plan([shape or least for shape in shapes], batch_size)
