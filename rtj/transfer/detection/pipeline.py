"""Host batches of images and boxes, in a few shapes.

What a batch holds is a function of (seed, step) alone, as in `rtj.data.pipeline`,
never of the number of threads or processes. Mirroring is the device's.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from rtj.data import images
from rtj.data.bad_images import BadImages, as_data_error
from rtj.data.decode import Decoding, whole_image
from rtj.data.prefetch import Batch, BatchIterator
from rtj.data.reading import PLAIN, Reading
from rtj.data.rows import (
    check_steps,
    with_substitutes,
)
from rtj.errors import ConfigError
from rtj.transfer.buckets import (
    NO_EXAMPLE,
    detection_buckets,
    reduced,
    resized,
    smallest,
)
from rtj.transfer.detection.batch_order import StepBatch, batch_order
from rtj.transfer.detection.object_rows import empty_rows, write_objects
from rtj.transfer.detection.objects import BoxExample, BoxSource
from rtj.transfer.examples import Noted, Size
from rtj.transfer.host import (
    check_size,
    load_or_none,
    load_usable,
    place,
    plan_evaluation,
)


class _Loaded(NamedTuple):
    """An example, its pixels resized, and what height and width were multiplied by."""

    example: BoxExample
    pixels: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class _Loader:
    """Loads examples of a source; see `train_batches` for the fields."""

    source: BoxSource
    short_side: int
    max_side: int
    decoding: Decoding
    may_reduce: bool

    def load(self, shape: Size, index: int) -> _Loaded:
        """Example `index`, resized by the rule and to fit `shape`.

        All examples planned for a shape fit it. One that takes the place of a broken
        one may not, and is made smaller.
        """
        with as_data_error(self.source.name, index):
            example = self.source[index]
            data, name = example["image"], example["id"]
        image = images.open_image(data, name, self.decoding.decoder)
        size = image.height, image.width
        check_size(size, self.source.size(index), name)
        target = reduced(resized(size, self.short_side, self.max_side), shape)
        pixels = whole_image(image, target, self.decoding, may_reduce=self.may_reduce)
        return _Loaded(example, pixels, np.divide(target, size))


def train_batches(
    source: BoxSource,
    *,
    batch_size: int,
    short_side: int,
    max_side: int,
    max_objects: int,
    seed: int,
    start_step: int,
    stop_step: int,
    reading: Reading = PLAIN,
) -> BatchIterator:
    """This process's rows of the global batches of steps [start_step, stop_step).

    The order is that of `batch_order`, which puts images of one orientation together.

    Args:
      batch_size: of the global batch.
      short_side, max_side: see `buckets.resized`.
      max_objects: G; of an image with more the largest stay, and the log says so.
      reading: see `Reading`; what takes the place of a bad one is reduced to fit the
        batch.

    Yields:
      {'image': uint8 (b, H, W, 3) RGB in the upper left of a canvas of 0, H x W being
      one of `buckets.detection_buckets`, 'size': int32 (b, 2), the image's height and
      width on it, 'boxes': float32 (b, G, 4), x1, y1, x2, y2 in pixels of it,
      'labels': int32 (b, G), 'objects': bool (b, G), False where there is none (box
      and label are 0 then), 'difficult': bool (b, G), 'index': int32 (b,), the
      position in `source`}.

    Raises:
      ConfigError here for a bad argument; DataError from `next` for an example that
      cannot be read, or for too many that cannot be decoded.
    """
    check_steps(start_step, stop_step)
    _check_sides(short_side, max_side)
    if max_objects < 1:
        raise ConfigError(f"detection.max_objects={max_objects}: 1 or more")
    share = reading.share(source, batch_size)
    crowded = Noted(source.name, f"images with more than {max_objects} objects")
    loader = _Loader(source, short_side, max_side, reading.decoding, may_reduce=True)
    planned = batch_order(
        source,
        batch_size=batch_size,
        seed=seed,
        short_side=short_side,
        max_side=max_side,
    )

    def allocate(number: int) -> Batch:
        shape = planned(start_step + number).shape
        return _empty(share.rows, shape) | empty_rows(share.rows, max_objects)

    def fill(number: int, first: int, out: Batch) -> None:
        start = share.offset + first
        batch = planned(start_step + number)
        _fill_train(loader, batch, start, seed, share.bad, crowded, out)

    return share.batches(allocate, fill, stop_step - start_step)


def eval_batches(
    source: BoxSource,
    *,
    batch_size: int,
    short_side: int,
    max_side: int,
    reading: Reading = PLAIN,
) -> BatchIterator:
    """This process's rows of global batches that hold every example once.

    Examples of one shape share batches, the largest shape first.

    Args:
      batch_size: of the global batch.
      short_side, max_side, reading: as in `train_batches`.

    Yields:
      {'image': uint8 (b, H, W, 3) and 'size': int32 (b, 2) as in `train_batches`,
      'scale': float32 (b, 2), what the image's height and width were multiplied by,
      'index': int32 (b,), 'valid': bool (b,)}. Padding has index -1, an undecodable
      image keeps its index; both have valid False, a black image, size (H, W) and
      scale 1.

    Raises:
      ConfigError here for a bad argument; DataError here or from `next` for an
      example that cannot be read, or for too many that cannot be decoded.
    """
    _check_sides(short_side, max_side)
    share = reading.share(source, batch_size)
    loader = _Loader(source, short_side, max_side, reading.decoding, may_reduce=False)
    buckets = detection_buckets(short_side, max_side)

    def bucket(size: Size) -> Size:
        return smallest(buckets, resized(size, short_side, max_side))

    plan = plan_evaluation(source, batch_size, bucket, share.bad)

    def allocate(number: int) -> Batch:
        return _empty(share.rows, plan[number].shape) | {
            "scale": np.ones((share.rows, 2), np.float32),
            "valid": np.zeros(share.rows, bool),
        }

    def fill(number: int, first: int, out: Batch) -> None:
        start = share.offset + first
        indices = plan[number].examples[start : start + len(out["index"])]
        _fill_eval(loader, indices.tolist(), share.bad, out)

    return share.batches(allocate, fill, len(plan))


def _check_sides(short_side: int, max_side: int) -> None:
    if not 1 <= short_side <= max_side:
        raise ConfigError(
            f"detection.short_side={short_side}, detection.max_side={max_side}: "
            "1 <= short_side <= max_side"
        )


def _empty(rows: int, shape: Size) -> Batch:
    return {
        "image": np.empty((rows, *shape, 3), np.uint8),
        "size": np.empty((rows, 2), np.int32),
        "index": np.empty(rows, np.int32),
    }


def _fill_train(
    loader: _Loader,
    batch: StepBatch,
    start: int,
    seed: int,
    bad: BadImages,
    crowded: Noted,
    out: Batch,
) -> None:
    """Writes the rows of the global batch from `start` on."""
    load, length = partial(loader.load, batch.shape), len(loader.source)
    rows = slice(start, start + len(out["index"]))
    choices = zip(
        batch.indices[rows].tolist(), batch.epochs[rows].tolist(), strict=True
    )
    for row, (first_choice, epoch) in enumerate(choices):
        candidates = with_substitutes(seed, epoch, first_choice, length)
        index, (example, pixels, scale) = load_usable(load, candidates, bad)
        out["index"][row], out["size"][row] = index, pixels.shape[:2]
        place(pixels, out["image"][row], 0)
        write_objects(example, scale, crowded, out, row)


def _fill_eval(loader: _Loader, indices: list[int], bad: BadImages, out: Batch) -> None:
    """Writes all rows; those of padding and of undecodable images are not valid."""
    shape = out["image"].shape[1:3]
    load = partial(loader.load, shape)
    for row, index in enumerate(indices):
        found = None if index == NO_EXAMPLE else load_or_none(load, index, bad)
        out["index"][row] = index
        if found is None:
            out["image"][row], out["size"][row] = 0, shape
        else:
            place(found.pixels, out["image"][row], 0)
            out["size"][row], out["scale"][row] = found.pixels.shape[:2], found.scale
            out["valid"][row] = True
