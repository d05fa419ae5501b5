"""Whether a long run of the input pipeline keeps its memory and files."""

import gc
import os
from itertools import islice
from pathlib import Path

import psutil

from rtj.bench import ours
from rtj.bench.crops import BATCH, Work


def watch(work: Work, images: int) -> dict[str, object]:
    """Resident MB of this process while `images` pass, and images that it has open.

    The first tenth fills caches; growth is from there to the end. `open_files` are the
    most that were open at once, by ten looks, and those after the last worker's end.
    """
    process = psutil.Process(os.getpid())
    marks: list[float] = []
    most = 0
    stride = max(1, images // BATCH // 10)
    batches = ours.batches(work, antialias=False)
    for number, _ in enumerate(islice(batches, stride * 10)):
        if (number + 1) % stride == 0:
            gc.collect()
            marks.append(process.memory_info().rss / 2**20)
            most = max(most, _open_in(work.folder, process))
    batches.close()
    return {
        "images": stride * 10 * BATCH,
        "rss_mb": [round(mark, 1) for mark in marks],
        "growth_mb": round(marks[-1] - marks[0], 1),
        "open_files": [most, _open_in(work.folder, process)],
    }


def _open_in(folder: Path, process: psutil.Process) -> int:
    whole = folder.resolve()
    return sum(whole in Path(file.path).parents for file in process.open_files())
