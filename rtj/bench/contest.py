"""One contestant's turn, in a process of its own; the order comes on stdin."""

import json
import sys
import time
from typing import Any

import numpy as np

from rtj.bench.child import load_entry
from rtj.bench.contestants import work_from
from rtj.bench.crops import BATCH, SIZE

# Threads, buffers and caches fill up meanwhile.
_WARM_UP_BATCHES = 6


def main() -> None:
    """Prints images_per_s of the order as JSON."""
    order = json.loads(sys.stdin.read())
    work = work_from(order)
    batches = load_entry(order["entry"])(work, **order["options"])
    for _ in range(_WARM_UP_BATCHES):
        check(next(batches), order["full"])
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < work.seconds:
        next(batches)
        count += BATCH
    print(json.dumps({"images_per_s": count / (time.perf_counter() - begin)}))
    close = getattr(batches, "close", None)
    if close is not None:
        close()


def check(images: Any, full: bool) -> None:
    """A contestant must really make what it is timed for."""
    images = np.asarray(images)
    dtype = "float32" if full else "uint8"
    shapes = ((BATCH, SIZE, SIZE, 3), (BATCH, 3, SIZE, SIZE))
    if images.shape not in shapes or images.dtype != dtype or images.std() == 0:
        raise ValueError(f"wrong batch: {images.shape} {images.dtype}")


if __name__ == "__main__":
    main()
