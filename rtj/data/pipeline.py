"""Host batches: a source in, dicts of NumPy arrays out, with prefetching threads.

What a batch holds is a function of (seed, step) alone, never of the number of threads
or processes.
"""

from dataclasses import dataclass

import numpy as np

from rtj.data import crop, decode, hashing, order
from rtj.data.bad_images import BadImages, read
from rtj.data.decode import Decoding
from rtj.data.examples import Source
from rtj.data.images import UndecodableImage
from rtj.data.prefetch import Batch, BatchIterator
from rtj.data.reading import PLAIN, Reading
from rtj.data.rows import (
    check_steps,
    with_substitutes,
)
from rtj.errors import ConfigError

CROP_STREAM = 0xC401


@dataclass(frozen=True)
class TrainOptions:
    """What one training image is made with.

    Attributes:
      image_size: S, pixels.
      seed: of the run.
      rule: of the random crop.
      decoding: see `rtj.data.decode`.
      repeats: times that an example comes in a row, each with its own crop.
    """

    image_size: int
    seed: int
    rule: crop.Rule
    decoding: Decoding
    repeats: int = 1


def train_batches(
    source: Source,
    *,
    batch_size: int,
    image_size: int,
    seed: int,
    start_step: int,
    stop_step: int,
    crop_area: tuple[float, float],
    crop_ratio: tuple[float, float],
    crop_form: str = "paper",
    repeats: int = 1,
    reading: Reading = PLAIN,
) -> BatchIterator:
    """This process's rows of the global batches of steps [start_step, stop_step).

    The order is that of `order.example_ids`; the crop of an example is a function
    of (seed, epoch, index). Starting at any step costs the same.

    Args:
      batch_size: of the global batch.
      image_size: S, pixels.
      crop_area, crop_ratio, crop_form: see `crop.Rule`.
      repeats: batch augmentation (Hoffer et al. 2020): every example comes this many
        times in a row, cropped and augmented differently; an epoch is as long as
        before and shows a part of the data set, as in timm's RepeatAugSampler.
      reading: see `Reading`.

    Yields:
      {'image': uint8 (b, S, S, 3) RGB, 'label': int32 (b,), 'index': int32 (b,)},
      index being the position in `source`, and with repeats 'copy': int32 (b,), 0 to
      repeats - 1.

    Raises:
      ConfigError here for a bad argument; DataError from `next` for an example that
      cannot be read, or for too many that cannot be decoded.
    """
    rule = crop.make_rule(crop_area, crop_ratio, crop_form)
    check_steps(start_step, stop_step)
    share = reading.share(source, batch_size)
    options = TrainOptions(image_size, seed, rule, reading.decoding, repeats)

    def allocate(number: int) -> Batch:
        batch = _empty(share.rows, image_size)
        if repeats > 1:
            batch["copy"] = np.empty(share.rows, np.int32)
        return batch

    def fill(number: int, first: int, out: Batch) -> None:
        start = (start_step + number) * batch_size + share.offset + first
        _fill_train(source, options, share.bad, start, out)

    return share.batches(allocate, fill, stop_step - start_step)


def _empty(rows: int, image_size: int) -> Batch:
    return {
        "image": np.empty((rows, image_size, image_size, 3), np.uint8),
        "label": np.empty(rows, np.int32),
        "index": np.empty(rows, np.int32),
    }


def _fill_train(
    source: Source, options: TrainOptions, bad: BadImages, start: int, out: Batch
) -> None:
    """Writes the rows at the stream positions from `start` on."""
    size, seed, repeats = options.image_size, options.seed, options.repeats
    stop = start + len(out["label"])
    positions = np.arange(start, stop)
    first, last = start // repeats, (stop - 1) // repeats + 1
    indices = order.stream_indices(seed, len(source), first, last)
    indices = indices[positions // repeats - first]
    epochs, copies = positions // repeats // len(source), positions % repeats
    key_parts = (epochs, indices) if repeats == 1 else (epochs, indices, copies)
    keys = hashing.make_key(CROP_STREAM, seed, *key_parts)
    numbers = hashing.uniforms(keys, crop.NUMBERS_PER_BOX).tolist()
    if repeats > 1:
        out["copy"][:] = copies
    for row, first_choice in enumerate(indices.tolist()):
        for index in with_substitutes(
            seed, int(epochs[row]), first_choice, len(source)
        ):
            data, label, name = read(source, index)
            try:
                out["image"][row] = decode.train_image(
                    data, name, size, options.rule, numbers[row], options.decoding
                )
            except UndecodableImage as error:
                bad.add(name, error)
                continue
            out["label"][row], out["index"][row] = label, index
            break


def eval_batches(
    source: Source,
    *,
    batch_size: int,
    image_size: int,
    eval_resize: int,
    reading: Reading = PLAIN,
) -> BatchIterator:
    """This process's rows of ceil(N / batch_size) global batches: every example
    once, in order, centre crop, padded at the end.

    Args:
      batch_size: of the global batch.
      image_size: S, pixels.
      eval_resize: length of the shorter side before the centre crop, >= S.
      reading: see `Reading`.

    Yields:
      {'image': uint8 (b, S, S, 3) RGB, 'label': int32 (b,), 'index': int32 (b,),
      'mask': bool (b,)}. Padding has mask False, index -1, label 0, a black image; an
      undecodable image has mask False and keeps its index.

    Raises:
      ConfigError here for a bad argument; DataError from `next` for an example that
      cannot be read, or for too many that cannot be decoded.
    """
    if eval_resize < image_size:
        raise ConfigError(
            f"eval_resize={eval_resize}: at least image_size={image_size}"
        )
    share = reading.share(source, batch_size)

    def allocate(number: int) -> Batch:
        return _empty(share.rows, image_size) | {"mask": np.zeros(share.rows, bool)}

    def fill(number: int, first: int, out: Batch) -> None:
        start = number * batch_size + share.offset + first
        out["image"][:], out["label"][:], out["index"][:] = 0, 0, -1
        stop = min(start + len(out["label"]), len(source))
        for row, index in enumerate(range(start, stop)):
            data, out["label"][row], name = read(source, index)
            out["index"][row] = index
            try:
                out["image"][row] = decode.eval_image(
                    data, name, image_size, eval_resize, reading.decoding
                )
                out["mask"][row] = True
            except UndecodableImage as error:
                share.bad.add(name, error)

    return share.batches(allocate, fill, -(-len(source) // batch_size))
