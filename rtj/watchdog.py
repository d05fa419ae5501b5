"""A run that stands still is noticed, shown and, by `rtj.main`, ended.

A host whose input blocks, a file system that does not answer, a peer that is alive
but stuck: nothing raises, and the others wait in a collective for ever. JAX's
heartbeat does not notice, for the processes live. So a thread beside the main one
watches whether that one gets on: from train step to train step, from batch to batch
of an evaluation, through a save.

It needs Python's interpreter lock: C code that never gives it back is not noticed.
"""

import contextlib
import faulthandler
import os
import platform
import tempfile
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import jax

from rtj.checkpoint.step_folders import newest_step
from rtj.errors import NoProgress
from rtj.peers import ALONE, Peers

OnStall = Callable[[NoProgress], None]
T = TypeVar("T")

STEPS = 20  # a limit is at least as long as so many of the longest recent step
FIRST = 10  # what takes compilation gets so many times `train.stall_s`
_RECENT = 100  # steps and batches
_DISK_S = 5.0  # a file system may be what stands still
_SAVING = "saving"


def warn(error: NoProgress) -> None:
    """The `on_stall` of a library: a notebook's kernel is not ended."""
    warnings.warn(f"rtj: {error}", RuntimeWarning, stacklevel=2)


class Watchdog:
    """While entered, calls `on_stall` once the main thread does not get on.

    The limit is `stall_s` or 20 times the longest of the last 100 train steps and
    evaluation batches, whichever is longer. At the start, and until the first train
    step (or evaluation batch) of this session has ended, it is 10 times `stall_s`:
    programs are compiled then. Time during which the whole process is stopped (Ctrl-Z)
    does not count.

    Before `on_stall`, in a thread of its own, the Python stacks of all threads go to
    stderr and to WORKDIR/stacks-INDEX.txt, also those of the other processes: the
    first that notices tells them. If `on_stall` returns, the watch goes on, and the
    next call comes after the next progress.

    Args:
        stall_s: seconds, `train.stall_s`; 0: nothing is watched.
        workdir: for the file, if it is there, and to name the last checkpoint.
        peers: of the run.
        on_stall: see above.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        stall_s: float,
        workdir: Path,
        peers: Peers = ALONE,
        on_stall: OnStall = warn,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stall_s = stall_s
        self._workdir = workdir
        self._peers = peers
        self._on_stall = on_stall
        self._clock = clock
        self._poll_s = min(1.0, stall_s / 10)
        self._doing = "start"
        self._step = 0
        self._beats = 0
        self._last = clock()
        self._ended_in: Counter[str] = Counter()
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self._longest = 0.0
        self._shared = False  # the first stall, with the other processes
        self._leaving = threading.Event()
        self._thread: threading.Thread | None = None

    def progress(self, step: int | None = None) -> None:
        """A train step (its number is given) or an evaluation batch has ended."""
        if step is not None:
            self._step = step
        took = self._clock() - self._last
        if self._warm and took <= self.limit():  # a stall is no measure of the next
            self._recent.append(took)
            self._longest = max(self._recent)
        self._ended_in[self._doing] += 1
        self._beat()

    @contextlib.contextmanager
    def during(self, doing: str) -> Iterator[None]:
        """`doing`: "training", "evaluation" or "saving"; to turn to it is progress."""
        before, self._doing = self._doing, doing
        self._beat()
        try:
            yield
        finally:
            self._doing = before
            self._beat()

    def limit(self) -> float:
        """Seconds without progress that are allowed now."""
        first = self._doing != _SAVING and not self._warm
        return max(self._stall_s * (FIRST if first else 1), STEPS * self._longest)

    @property
    def _warm(self) -> bool:
        # A step is dispatched, and awaited after the next one is: two until it has run.
        return self._ended_in[self._doing] >= 2

    def _beat(self) -> None:
        self._last = self._clock()
        self._beats += 1

    def __enter__(self) -> "Watchdog":
        if self._stall_s > 0:
            self._thread = threading.Thread(
                target=self._watch, name="rtj-watchdog", daemon=True
            )
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving.set()
        if self._thread is not None:
            self._thread.join(timeout=10)  # before JAX's client goes, if it is asked

    def _watch(self) -> None:
        seen, silent, before, told = self._beats, 0.0, self._clock(), False
        while not self._leaving.wait(self._poll_s):
            now = self._clock()
            passed, before = min(now - before, 2 * self._poll_s), now
            if self._beats != seen:
                seen, silent, told = self._beats, 0.0, False
                continue
            silent += passed
            if told:
                continue
            first = self._heard_of()
            if first or silent > self.limit():
                told = True
                self._stalled(silent, first)

    def _heard_of(self) -> str:
        """Which process was the first to notice; "": none, or that was dealt with."""
        if self._peers.count > 1 and not self._shared:
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                return self._peers.read("stalled") or ""
        return ""

    def _stalled(self, silent: float, first: str) -> None:
        doing, step, me = self._doing, self._step, self._name()
        if self._peers.count > 1 and not self._shared and not first:
            with contextlib.suppress(jax.errors.JaxRuntimeError):
                self._peers.post("stalled", me)
        self._shared = True
        noticed = f"; {first} was the first to notice" if first else ""
        where = show_stacks(self._workdir / f"stacks-{self._peers.index}.txt")
        newest = _in_time(lambda: _newest_checkpoint(self._workdir))
        self._on_stall(
            NoProgress(
                f"{me + ': ' if me else ''}no progress for {silent:.0f} s at step "
                f"{step} ({doing}){noticed}; the stacks are {where}, the last "
                f"checkpoint {newest or 'cannot be seen'}; run the same command again "
                "to go on"
            )
        )

    def _name(self) -> str:
        if self._peers.count == 1:
            return ""
        return f"process {self._peers.index} of {self._peers.count} ({platform.node()})"


def show_stacks(path: Path) -> str:
    """The Python stacks of all threads, on stderr and in `path`; says where."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        faulthandler.dump_traceback(file)
        file.seek(0)
        text = file.read()
    # The descriptor: sys.stderr may be a notebook's, which is slow to show this.
    _in_time(lambda: os.write(2, text.encode()))
    kept = _in_time(lambda: path.write_text(text, encoding="utf-8"))
    return "above" if kept is None else f"in {path}"


def _newest_checkpoint(workdir: Path) -> str:
    newest = newest_step(workdir / "checkpoints")
    return "does not exist" if newest is None else f"is of step {newest}"


def _in_time(function: Callable[[], T]) -> T | None:
    """What `function` returns, or None if the disk or pipe fails or takes too long."""
    results: list[T] = []

    def call() -> None:
        with contextlib.suppress(OSError):
            results.append(function())

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(_DISK_S)
    return results[0] if results else None
