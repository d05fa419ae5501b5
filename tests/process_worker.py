"""One process of a test run: `rtj.main`, watched, and made to fail where asked.

    python process_worker.py SEEN.json FAULT [flags of rtj.main]

SEEN.json gets, for each training batch that the loop took, this process's rows as a
list of [first row, [example indices]]. FAULT is NAME:BATCH (from 0) or empty: SIGTERM
and SIGKILL come before that batch's step, DataError instead of it, and `program` makes
this process's step another program.
"""

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

import rtj.classification
import rtj.loop
from rtj import main
from rtj.errors import DataError


def watch(seen: Path, fault: str) -> None:
    name, _, number = fault.partition(":")
    taken = []
    real = rtj.loop.sharding.device_batches

    def spy(batches, mesh):
        for batch in real(batches, mesh):
            if "mask" in batch:  # of an evaluation
                yield batch
                continue
            shards = batch["index"].addressable_shards
            taken.append(
                [[s.index[0].start or 0, np.asarray(s.data).tolist()] for s in shards]
            )
            seen.write_text(json.dumps(taken))
            if number and len(taken) == int(number) + 1:
                fail(name)
            yield batch

    rtj.loop.sharding.device_batches = spy
    if name == "program":
        real_rank = rtj.classification.rank_of_label
        rtj.classification.rank_of_label = lambda *args: real_rank(*args) + 0 * args[1]


def fail(name: str) -> None:
    if name == "DataError":
        raise DataError("the disk of this host is gone")
    os.kill(os.getpid(), getattr(signal, name))


if __name__ == "__main__":
    watch(Path(sys.argv[1]), sys.argv[2])
    sys.exit(main.run(["rtj.main", *sys.argv[3:]]))
