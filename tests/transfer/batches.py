"""What tests of both tasks' host batches do with them."""

import io

import numpy as np
from PIL import Image


def encode(pixels, form="PNG", **options):
    """The bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def smooth(height, width):
    """A picture that loses little as a JPEG and at a part of its size."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 29) * np.cos(y / 33), np.sin((x + y) / 47), np.cos(x / 61)]
    return (np.stack(waves, -1) * 110 + 128).astype(np.uint8)


def assert_same(left, right):
    """Fails unless two lists hold the same batches."""
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key], err_msg=key)


def by_process(run, source, count):
    """The global batches that `count` processes make together."""
    parts = [run(source, process_index=h, process_count=count) for h in range(count)]
    return [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]


def rows(batches):
    """One dict for each row of the batches."""
    return [
        {key: batch[key][row] for key in batch}
        for batch in batches
        for row in range(len(batch["index"]))
    ]
