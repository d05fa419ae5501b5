"""Shapes of batches, and which examples share one: pure functions of image sizes.

A compiled step is a step for one shape, so images are padded to a few: buckets. All
sizes and shapes are (height, width) in pixels. Every process computes the same plans.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rtj.data import hashing
from rtj.transfer.examples import Size

MULTIPLE = 32
# Padding at the end of an evaluation.
NO_EXAMPLE = -1
_BATCH_STREAM = 0xBA7C


class Planned(NamedTuple):
    """One global batch: the shape of its images, and which examples are in it.

    `examples` is (B,) int32: dataset indices in an evaluation, NO_EXAMPLE where there
    is none; positions in the window in training.
    """

    shape: Size
    examples: np.ndarray


def resized(size: Size, short_side: int, max_side: int) -> Size:
    """The size of an image whose short side becomes `short_side`, or less where the
    long one would exceed `max_side` (Faster R-CNN, section 3.3).

    Rounded to the nearest pixel, a half to the even one, as gluon-cv's
    `resize_short_within`.

    In the wild: torchvision rounds both sides down, Detectron leaves the rounding to
    OpenCV.
    """
    scale = short_side / min(size)
    if round(scale * max(size)) > max_side:
        scale = max_side / max(size)
    return _scaled(size, scale)


def reduced(size: Size, limit: Size) -> Size:
    """The largest size of that aspect ratio inside `limit`, never above `size`."""
    if size[0] <= limit[0] and size[1] <= limit[1]:
        return size
    height, width = _scaled(size, min(limit[0] / size[0], limit[1] / size[1]))
    return min(height, limit[0]), min(width, limit[1])


def _scaled(size: Size, scale: float) -> Size:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def detection_buckets(
    short_side: int, max_side: int, multiple: int = MULTIPLE
) -> list[Size]:
    """Shapes that hold every image resized by `resized`, the tallest first.

    The landscapes short x 4/3 short and short x max, their portraits, and the square
    max x max for a batch of both; sides are rounded up to a multiple. 4:3 is the
    shape of most photos: 500 x 375 pixels in PASCAL VOC, 640 x 480 in COCO.
    """

    def up(side: float) -> int:
        return int(-(-side // multiple)) * multiple

    short, long = up(short_side), up(max_side)
    usual = min(up(4 * short_side / 3), long)
    shapes = {(short, usual), (short, long), (usual, short), (long, short)}
    return sorted(shapes | {(long, long)}, key=lambda shape: shape[1] / shape[0])


def smallest(buckets: Sequence[Size], size: Size) -> Size:
    """The bucket of the least area that holds `size`; the wider of two such."""
    fitting = [b for b in buckets if b[0] >= size[0] and b[1] >= size[1]]
    return min(fitting, key=lambda bucket: (bucket[0] * bucket[1], -bucket[1]))


def window_batches(window: int, batch_size: int, length: int) -> int:
    """Batches of a window of training: `window`, but no more than an epoch has."""
    return max(1, min(window, length // batch_size))


def train_window(
    sizes: Sequence[Size],
    buckets: Sequence[Size],
    batch_size: int,
    seed: int,
    window: int,
) -> list[Planned]:
    """The batches of one window of the training stream.

    The window's examples are sorted by shape, the stream's order kept among equals,
    and cut into batches, whose order is then drawn by (seed, window). So all but a few
    batches are of one orientation, and no batch depends on another window.

    In the wild: torchvision groups by aspect ratio too, with a sampler that has to be
    run from the start of an epoch; gluon-cv pads each batch to its own largest sides.

    Args:
        sizes: of the window's examples after resizing, in the stream's order; a
            multiple of `batch_size` of them.
        window: number of the window.
    """
    wanted = [buckets.index(smallest(buckets, size)) for size in sizes]
    batches = np.argsort(wanted, kind="stable").astype(np.int32).reshape(-1, batch_size)
    keys = hashing.make_key(_BATCH_STREAM, seed, window, np.arange(len(batches)))
    plan = []
    for batch in batches[np.argsort(keys)]:
        tallest, widest = np.max([sizes[k] for k in batch], axis=0).tolist()
        plan.append(Planned(smallest(buckets, (tallest, widest)), batch))
    return plan


def eval_plan(shapes: Sequence[Size], batch_size: int) -> list[Planned]:
    """All examples in batches of one shape each, the largest shape first.

    What does not fit in memory then fails at once. Inside a shape examples keep their
    order; its last batch is padded with NO_EXAMPLE.

    Args:
        shapes: the bucket of each example.
    """
    groups: dict[Size, list[int]] = {}
    for index, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(index)
    plan = []
    for shape in sorted(groups, key=lambda shape: (shape[0] * shape[1], shape))[::-1]:
        found = groups[shape]
        batches = np.full((-(-len(found) // batch_size), batch_size), NO_EXAMPLE)
        batches.flat[: len(found)] = found
        plan += [Planned(shape, batch) for batch in batches.astype(np.int32)]
    return plan


def quarter_octave(side: int) -> int:
    """`side` rounded up to 2^k times 1, 1.25, 1.5 or 1.75, and to a multiple of 8.

    At most a quarter is added above 32, and there are four values an octave: 96 ->
    96, 500 -> 512, 683 -> 768.
    """
    # 2^k < side <= 2^(k + 1) has steps of 2^k / 4.
    step = max(8, 2 ** ((side - 1).bit_length() - 1) // 4)
    return -(-side // step) * step
