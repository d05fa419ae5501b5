"""How far the work on a data set's images is, how fast, and how long it still takes."""

import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from rtj.progress import format_duration

_SECONDS_A_LINE = 10.0


class ImageProgress:
    """A bar on a terminal, plain lines elsewhere, one every 10 s and one at the end:

        convert 12000/1281167 images (0.9%) 850 img/s 0:24:53 left

    Args:
      what: the first word.
      total: images.
      done: of them, by an earlier run; they do not count in the rate.
      clock: seconds, monotonic.
    """

    def __init__(
        self,
        what: str,
        total: int,
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._total = total
        self._first = self._done = done
        self._clock = clock
        self._start = self._shown = clock()
        self._bar: tqdm | None = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                desc=what, total=total, initial=done, unit=" img", dynamic_ncols=True
            )

    def add(self, count: int = 1) -> None:
        """Notes that `count` more images are done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._clock() - self._shown >= _SECONDS_A_LINE:
            self._print()

    def note(self, text: str) -> None:
        """Prints a line to stdout; a bar on the terminal stays whole."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """The last line; the bar is left as it stands."""
        if self._bar is not None:
            self._bar.close()
        else:
            self._print()

    def _print(self) -> None:
        self._shown = self._clock()
        percent = 100 * self._done / self._total if self._total else 100
        text = f"{self._what} {self._done}/{self._total} images ({percent:.1f}%)"
        fresh, seconds = self._done - self._first, self._shown - self._start
        if fresh and seconds > 0:
            left = (self._total - self._done) * seconds / fresh
            text += f" {fresh / seconds:.0f} img/s {format_duration(left)} left"
        print(text, flush=True)
