"""One trainer a workdir.

Two at once, such as a job and its copy that a scheduler started again too early, would
write the same metrics and checkpoints. A lock of the file system tells the second one,
and ends with the process that holds it, however that ends.
"""

import datetime
import fcntl
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from rtj.errors import ConfigError
from rtj.peers import Peers, as_error
from rtj.workdir import LOCK_FILE, writing

_POLL_S = 0.2


def lock_workdir(peers: Peers, workdir: Path, stack: ExitStack) -> None:
    """Process 0 locks `workdir` until `stack` ends; all get the error if it cannot.

    A holder has half of the time that processes wait for each other to end.

    Raises:
        ConfigError: see `locked`.
    """
    problem = ""
    if peers.lead:
        try:
            stack.enter_context(locked(workdir, peers.wait_s / 2))
        except ConfigError as error:
            problem = str(error)
    problem = peers.first_problem("lock of the workdir", problem)
    if problem:
        raise as_error(problem)


@contextmanager
def locked(workdir: Path, wait_s: float) -> Iterator[None]:
    """Nobody else trains in `workdir` inside; the folder is there then.

    One who does may be about to end, so it is given `wait_s`. Where the file system
    has no locks, a line on stderr says so.

    Raises:
        ConfigError: it did not end in time, or `workdir` cannot be written.
    """
    with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / LOCK_FILE).open("a+")
    with file:
        _take(file, workdir, wait_s)
        file.truncate(0)
        file.write(json.dumps(_myself()))
        file.flush()
        yield


def _take(file: IO[str], workdir: Path, wait_s: float) -> None:
    end = time.monotonic() + wait_s
    told = False
    while not _taken(file, workdir):
        holder = _holder(file)
        if time.monotonic() >= end:
            raise ConfigError(
                f"workdir={str(workdir)!r} is in use by {holder}; allowed: another "
                "workdir, or this one when that run has ended"
            )
        if not told:
            print(
                f"rtj: {workdir} is in use by {holder}; waiting {wait_s:.0f} s for its "
                "end",
                file=sys.stderr,
                flush=True,
            )
            told = True
        time.sleep(_POLL_S)


def _taken(file: IO[str], workdir: Path) -> bool:
    """False if another has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        print(
            f"rtj: {workdir} cannot be locked ({error}); a second run there would not "
            "be noticed",
            file=sys.stderr,
            flush=True,
        )
    return True


def _myself() -> dict[str, str | int]:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"host": platform.node(), "process": os.getpid(), "since": now}


def _holder(file: IO[str]) -> str:
    file.seek(0)
    try:
        found = json.loads(file.read())
        return f"process {found['process']} of {found['host']}, since {found['since']}"
    except (ValueError, TypeError, LookupError):  # it is being written
        return "another process"
