"""One process of a test run: `rtj.main`, watched, and made to fail where asked.

    python process_worker.py SEEN.json FAULT [flags of rtj.main]

SEEN.json gets, for each training batch that the loop took, this process's rows as a
list of [first row, [example indices]]. FAULT is NAME:PLACE or empty. NAME is a signal
(or several, as SIGTERM+SIGINT), DataError, or `stuck`: the process lives, but its main
thread goes no further. PLACE is a training batch (from 0), before whose step it
happens, or `evaluation` (its second batch) or `save` (the second of this process has
begun). `program` alone makes this process's step another program.
"""

import json
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np

import rtj.classification
import rtj.loop
import rtj.start
from rtj import main
from rtj.errors import DataError


def watch(seen: Path, fault: str) -> None:
    name, _, place = fault.partition(":")
    taken = []
    real = rtj.loop.sharding.device_batches

    def spy(batches, mesh):
        for number, batch in enumerate(real(batches, mesh)):
            if "mask" in batch:  # of an evaluation
                if place == "evaluation" and number == 1:
                    fail(name)
                yield batch
                continue
            shards = batch["index"].addressable_shards
            taken.append(
                [[s.index[0].start or 0, np.asarray(s.data).tolist()] for s in shards]
            )
            seen.write_text(json.dumps(taken))
            if place == str(number):
                fail(name)
            yield batch

    rtj.loop.sharding.device_batches = spy
    if place == "save":
        fail_in_second_save(name)
    if name == "program":
        real_rank = rtj.classification.rank_of_label
        rtj.classification.rank_of_label = lambda *args: real_rank(*args) + 0 * args[1]


def fail_in_second_save(name: str) -> None:
    real, saves = rtj.start.Checkpointer.save, []

    def save(*args):
        real(*args)
        saves.append(args)
        if len(saves) == 2:
            fail(name)

    setattr(rtj.start.Checkpointer, "save", save)  # noqa: B010 (mypy: a method)


def fail(name: str) -> None:
    if name == "DataError":
        raise DataError("the disk of this host is gone")
    if name == "stuck":
        threading.Event().wait()
    for number in name.split("+"):
        os.kill(os.getpid(), getattr(signal, number))


if __name__ == "__main__":
    watch(Path(sys.argv[1]), sys.argv[2])
    sys.exit(main.run(["rtj.main", *sys.argv[3:]]))
