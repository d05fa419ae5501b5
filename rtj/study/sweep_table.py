"""The table that a sweep shows while it runs."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import TextIO

STATES = ("waiting", "running", "done", "failed", "stopped")


class SweepTable:
    """A line a run: on a terminal redrawn in place, elsewhere printed as it changes.

    Args:
        names: of the runs, in order.
        out: where to; the runs' own output goes elsewhere.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        names: Sequence[str],
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out = sys.stdout if out is None else out
        self._live = self._out.isatty()
        self._width = max(map(len, names))
        self._lines = {name: self._line(name, "waiting", "") for name in names}
        self._clock = clock
        self._drawn = False
        self._last = 0.0
        if self._live:
            self._draw()

    def set(self, name: str, state: str, text: str = "") -> None:
        """A run has come to a new state (one of `STATES`)."""
        self._lines[name] = self._line(name, state, text)
        if self._live:
            self._draw()
        else:
            print(self._lines[name], file=self._out, flush=True)

    def progress(self, name: str, text: str) -> None:
        """How far a running run is; shown on a terminal only, twice a second."""
        if self._live and self._clock() - self._last > 0.5:
            self.set(name, "running", text)

    def _line(self, name: str, state: str, text: str) -> str:
        return f"{name:<{self._width}}  {state:<7}  {text}".rstrip()

    def _draw(self) -> None:
        self._last = self._clock()
        up = f"\x1b[{len(self._lines)}A" if self._drawn else ""
        text = "".join(f"\x1b[2K{line}\n" for line in self._lines.values())
        self._out.write(up + text)
        self._out.flush()
        self._drawn = True
