"""Where the time of one image goes, on one thread, in CPU microseconds."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rtj.bench.crops import BATCH, SIZE, Work
from rtj.data import images, resize


def breakdown(work: Work, antialias: bool, batches: int = 6) -> dict[str, float]:
    """Microseconds an image of read, decode, resize, collate and transfer."""
    spent: dict[str, float] = defaultdict(float)

    def timed(part: str, call: Callable[..., Any], *args: Any) -> Any:
        begin = time.perf_counter()
        value = call(*args)
        spent[part] += time.perf_counter() - begin
        return value

    stream = work.endless()
    for number in range(batches + 1):
        if number == 1:  # the first batch warms up
            spent.clear()
        rows = []
        for _ in range(BATCH):
            name, box = next(stream)
            data = timed("read", _read, name)
            pixels = timed("decode", _decode, data, tuple(box.tolist()))
            whole, size = (0, 0, pixels.shape[1], pixels.shape[0]), (SIZE, SIZE)
            how = "bilinear", antialias
            rows.append(timed("resize", resize.resize, pixels, whole, size, *how))
        batch = timed("collate", np.stack, rows)
        timed("transfer", _transfer, batch)
    return {part: 1e6 * spent[part] / (batches * BATCH) for part in spent}


def _read(name: str) -> bytes:
    with open(name, "rb") as file:
        return file.read()


def _decode(data: bytes, box: Any) -> np.ndarray:
    return images.open_image(data, "", "simplejpeg").region(box)


def _transfer(batch: np.ndarray) -> None:
    jax.device_put(batch).block_until_ready()
