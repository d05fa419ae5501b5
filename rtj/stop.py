"""Signals that ask a run to save and end, agreed on by all its processes."""

import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from rtj.peers import ALONE, Peers

# How many ticks later than the signalled process's newest one all stop. Two are
# needed: see `StopRequest.agreed`.
_AHEAD = 2


class StopRequest:
    """While entered, SIGTERM, SIGINT and SIGUSR1 set `requested` instead of ending.

    SIGUSR1 is what a SLURM job may ask for before its time limit. A second signal,
    of any of the three, does what it would have without this class: it ends the
    process, once the main thread is back from C code (`end_at_second_signal` does not
    wait for that). Outside the main thread, where Python cannot install handlers,
    nothing is changed and `requested` stays None.

    Attributes:
        requested: the name of the signal that this process got, or None.
        reason: the one that all stop for, once agreed, or None.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)

    def __init__(self, peers: Peers = ALONE) -> None:
        self.requested: str | None = None
        self.reason: str | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._peers = peers
        self._tick = 0
        self._stop_tick: int | None = None

    def agreed(self) -> bool:
        """Whether to stop here and now; the same for all processes at the n-th call.

        Each must call it after every train step and before every batch of an
        evaluation. One process stops at once. Of several, the one with a signal posts
        a tick (a number of such a call) at which all will stop, two after its own.
        The others cannot miss it: before its tick t + 2 a process has read results
        of a step or batch that the signalled process entered only after its tick t.
        It costs one look-up in the key-value store a step.
        """
        self._tick += 1
        if self._peers.count == 1:
            self.reason = self.requested
            return self.reason is not None
        if self._stop_tick is None:
            self._look()
            if self._stop_tick is None and self.requested:
                plan = {"tick": self._tick + _AHEAD, "reason": self._described()}
                self._peers.post("stop", json.dumps(plan))
                self._look()
        return self._stop_tick is not None and self._tick >= self._stop_tick

    def _look(self) -> None:
        text = self._peers.read("stop")
        if text is not None:
            plan = json.loads(text)
            self._stop_tick, self.reason = plan["tick"], plan["reason"]

    def _described(self) -> str:
        return f"{self.requested} at process {self._peers.index}"

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._handle) for s in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not Python's, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number).name
        self._restore()


@contextlib.contextmanager
def end_at_second_signal() -> Iterator[None]:
    """Inside, a second signal ends the process whatever its main thread is in.

    Python's handlers run in the main thread, between two of its operations: a run
    that compiles for minutes, or waits for a peer that is gone, would get its first
    signal only then, and a second would be taken for the same. A thread counts them
    here. The exit code is 128 + the signal's number, a shell's for such an end.

    Only for a program that is the run: it is not left to save, nor is a notebook's
    kernel. Outside the main thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    counting = threading.Thread(target=_count, args=(reader,), daemon=True)
    counting.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)
        counting.join()


def _count(reader: int) -> None:
    got = 0
    with open(reader, "rb", buffering=0) as signals:
        while number := signals.read(1):  # one byte each, of those with a handler
            got += number[0] in StopRequest.SIGNALS
            if got == 2:
                os._exit(128 + number[0])
