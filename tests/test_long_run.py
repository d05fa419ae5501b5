"""A run of many steps, evaluations and saves holds on to nothing."""

import gc
import os
import statistics
import threading

import psutil
import pytest

import rtj

STEPS = 200


@pytest.mark.slow
def test_files_threads_and_memory_do_not_grow_with_the_steps(tiny_config, tmp_path):
    every = 10 * 8 / 4000  # 10 steps in epochs
    config = tiny_config(
        **{
            "train.steps": STEPS,
            "train.batch_size": 8,
            "train.eval_every": every,
            "train.save_every": every,
            "data.eval_split": "test[:16]",
        }
    )
    files, threads, memory = {}, {}, {}

    def measure(step, _):
        if step % 10 == 5:  # halfway from one save and evaluation to the next
            gc.collect()
            files[step] = len(os.listdir("/proc/self/fd"))
            threads[step] = threading.active_count()
            memory[step] = psutil.Process().memory_info().rss / 2**20

    rtj.train(config, tmp_path, callbacks=[measure])
    assert len(files) == STEPS // 10
    # A save under way has 8 files and 4 threads more than none.
    for name, counts, margin in (
        ("files", files, 5),
        ("threads", threads, 3),
        ("MiB", memory, 30),
    ):
        early = [n for step, n in counts.items() if STEPS * 0.15 < step < STEPS * 0.35]
        late = [n for step, n in counts.items() if step > STEPS * 0.8]
        grown = statistics.median(late) - statistics.median(early)
        assert grown <= margin, (name, counts)
