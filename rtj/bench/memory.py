"""Whether a long run of the input pipeline keeps its memory and files."""

import gc
import os
from itertools import islice

import psutil

from rtj.bench import ours
from rtj.bench.crops import BATCH, Work


def watch(work: Work, images: int) -> dict[str, object]:
    """Resident MB of this process while `images` pass, and its open files around it.

    The first tenth fills caches; growth is from there to the end. Files are counted
    before the first batch and after the last worker has ended: in between, a worker
    may have an image open.
    """
    process = psutil.Process(os.getpid())
    marks: list[float] = []
    files = process.num_fds()
    stride = max(1, images // BATCH // 10)
    batches = ours.batches(work, antialias=False)
    for number, _ in enumerate(islice(batches, stride * 10)):
        if (number + 1) % stride == 0:
            gc.collect()
            marks.append(process.memory_info().rss / 2**20)
    batches.close()
    return {
        "images": stride * 10 * BATCH,
        "rss_mb": [round(mark, 1) for mark in marks],
        "growth_mb": round(marks[-1] - marks[0], 1),
        "open_files": [files, process.num_fds()],
    }
