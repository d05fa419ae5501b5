"""Host batches of images and masks, of one size in training and of few in evaluation.

What a batch holds is a function of (seed, step) alone, as in `rtj.data.pipeline`,
never of the number of threads or processes. Mirroring, scaling and cropping are the
device's; see `rtj.transfer.segmentation.augment`.
"""

from collections.abc import Callable

import numpy as np

from rtj.data import images, order
from rtj.data.bad_images import BadImages, as_data_error
from rtj.data.decode import Decoding, whole_image
from rtj.data.prefetch import Batch, BatchIterator
from rtj.data.reading import PLAIN, Reading
from rtj.data.rows import (
    check_steps,
    with_substitutes,
)
from rtj.transfer.buckets import NO_EXAMPLE, quarter_octave, reduced
from rtj.transfer.examples import Size, unusable
from rtj.transfer.host import (
    check_size,
    load_or_none,
    load_usable,
    place,
    plan_evaluation,
)
from rtj.transfer.segmentation.masks import IGNORED, MaskSource
from rtj.transfer.segmentation.nearest import resize_mask

# (image uint8 (H, W, 3), mask (H, W)) of example `index`.
_Load = Callable[[int], tuple[np.ndarray, np.ndarray]]


def train_batches(
    source: MaskSource,
    *,
    batch_size: int,
    canvas: int,
    seed: int,
    start_step: int,
    stop_step: int,
    reading: Reading = PLAIN,
) -> BatchIterator:
    """This process's rows of the global batches of steps [start_step, stop_step).

    The order is that of `order.example_ids`. An image larger than the canvas is
    reduced to fit it, none is enlarged; its mask takes the nearest pixels.

    In the wild: gluon-cv resizes the original to its random size on the host, which
    differs from this only where the canvas is smaller than the original.

    Args:
      batch_size: of the global batch.
      canvas: C, pixels.
      reading: see `Reading`.

    Yields:
      {'image': uint8 (b, C, C, 3) RGB in the upper left of a canvas of 0, 'mask':
      uint8 (b, C, C), IGNORED beyond the image, 'size': int32 (b, 2), the
      image's height and width, 'index': int32 (b,), the position in `source`}.

    Raises:
      ConfigError here for a bad argument; DataError from `next` for an example that
      cannot be read, or for too many that cannot be decoded.
    """
    check_steps(start_step, stop_step)
    share = reading.share(source, batch_size)

    def load(index: int) -> tuple[np.ndarray, np.ndarray]:
        return _load(source, index, reading.decoding, (canvas, canvas))

    def allocate(number: int) -> Batch:
        return _empty(share.rows, (canvas, canvas))

    def fill(number: int, first: int, out: Batch) -> None:
        start = (start_step + number) * batch_size + share.offset + first
        _fill_train(load, len(source), seed, share.bad, start, out)

    return share.batches(allocate, fill, stop_step - start_step)


def eval_batches(
    source: MaskSource,
    *,
    batch_size: int,
    reading: Reading = PLAIN,
) -> BatchIterator:
    """This process's rows of global batches that hold every example once, unresized.

    Each side is padded to the next `quarter_octave`, and examples of one shape share
    batches, the largest shape first, so a data set has few shapes.

    Args:
      batch_size: of the global batch.
      reading: see `Reading`.

    Yields:
      As `train_batches`, with the shape (H, W) of the batch in place of (C, C).
      A row of padding has index -1, an undecodable image keeps its index; both have
      size (0, 0), a black image, and IGNORED in all of the mask.

    Raises:
      ConfigError here for a bad argument; DataError here or from `next` for an
      example that cannot be read, or for too many that cannot be decoded.
    """
    share = reading.share(source, batch_size)
    plan = plan_evaluation(source, batch_size, bucket, share.bad)

    def load(index: int) -> tuple[np.ndarray, np.ndarray]:
        return _load(source, index, reading.decoding, None)

    def allocate(number: int) -> Batch:
        return _empty(share.rows, plan[number].shape)

    def fill(number: int, first: int, out: Batch) -> None:
        start = share.offset + first
        indices = plan[number].examples[start : start + len(out["index"])]
        _fill_eval(load, indices.tolist(), share.bad, out)

    return share.batches(allocate, fill, len(plan))


def bucket(size: Size) -> Size:
    """The shape that an image of that size is evaluated at."""
    return quarter_octave(size[0]), quarter_octave(size[1])


def _empty(rows: int, shape: Size) -> Batch:
    return {
        "image": np.empty((rows, *shape, 3), np.uint8),
        "mask": np.empty((rows, *shape), np.uint8),
        "size": np.empty((rows, 2), np.int32),
        "index": np.empty(rows, np.int32),
    }


def _load(
    source: MaskSource, index: int, decoding: Decoding, limit: Size | None
) -> tuple[np.ndarray, np.ndarray]:
    """An example's image and mask, reduced to `limit` if they exceed it.

    Without a limit they must have the size that the source told of before.
    """
    with as_data_error(source.name, index):
        example = source[index]
        data, mask, name = example["image"], example["mask"], example["id"]
    image = images.open_image(data, name, decoding.decoder)
    size = image.height, image.width
    if mask.shape != size:
        raise unusable(name, f"its image is {size}, its mask {mask.shape}")
    if limit is None:
        check_size(size, source.size(index), name)
    else:
        size = reduced(size, limit)
    pixels = whole_image(image, size, decoding, may_reduce=True)
    return pixels, resize_mask(mask, size)


def _write(
    image: np.ndarray, mask: np.ndarray, index: int, out: Batch, row: int
) -> None:
    place(image, out["image"][row], 0)
    place(mask, out["mask"][row], IGNORED)
    out["size"][row], out["index"][row] = image.shape[:2], index


def _fill_train(
    load: _Load, length: int, seed: int, bad: BadImages, start: int, out: Batch
) -> None:
    """Writes the rows at the stream positions from `start` on."""
    indices = order.stream_indices(seed, length, start, start + len(out["index"]))
    for row, first_choice in enumerate(indices.tolist()):
        epoch = (start + row) // length
        candidates = with_substitutes(seed, epoch, first_choice, length)
        index, (image, mask) = load_usable(load, candidates, bad)
        _write(image, mask, index, out, row)


def _fill_eval(load: _Load, indices: list[int], bad: BadImages, out: Batch) -> None:
    """Writes all rows; those of padding and of undecodable images are empty."""
    empty = np.empty((0, 0, 3), np.uint8), np.empty((0, 0), np.uint8)
    for row, index in enumerate(indices):
        found = None if index == NO_EXAMPLE else load_or_none(load, index, bad)
        image, mask = found or empty
        _write(image, mask, index, out, row)
