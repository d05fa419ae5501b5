"""How far a run is, how fast, and how long it still takes."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import SupportsFloat

from tqdm import tqdm


class Rate:
    """Steps per second over the time that is not paused.

    The clock starts at the first `mark`, so the step before it, which compiles, does
    not count. `recent` is between the last two marks, `mean` since the first; both are
    None while there is nothing to divide.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._paused_s = 0.0
        self._first: tuple[int, float] | None = None
        self._last: tuple[int, float] | None = None
        self.recent: float | None = None
        self.mean: float | None = None

    def _now(self) -> float:
        return self._clock() - self._paused_s

    def start(self, step: int) -> None:
        """Starts the clock at the end of `step`, unless it runs already."""
        if self._first is None:
            self._first = self._last = (step, self._now())

    def mark(self, step: int) -> None:
        """Notes that `step` has ended now."""
        now = (step, self._now())
        if self._first is not None and self._last is not None:
            self.recent = _per_second(self._last, now)
            self.mean = _per_second(self._first, now)
        self._first = self._first or now
        self._last = now

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Leaves out the time that passes inside."""
        begin = self._clock()
        try:
            yield
        finally:
            self._paused_s += self._clock() - begin


def _per_second(begin: tuple[int, float], end: tuple[int, float]) -> float | None:
    steps, seconds = end[0] - begin[0], end[1] - begin[1]
    return steps / seconds if steps > 0 and seconds > 0 else None


class Progress:
    """Shows how far a run is: a bar on a terminal, plain lines elsewhere.

    If stderr is a terminal the bar is drawn there. Otherwise each log step prints one
    line to stdout, as

        step 120/500 (24.0%) epoch 3.8 loss 0.213 lr 0.2 1234 img/s 0:00:31 left

    Images/s is since the last log step. The time left is for the remaining steps at
    the mean rate of this session. Neither counts the first step or paused time.

    Args:
      total: steps of the whole run.
      batch_size: images a step, over all processes.
      steps_per_epoch: to show the epoch; may be fractional.
      start_step: the step the run starts from.
      enabled: False shows nothing, for all processes but the first.
      clock: seconds, monotonic.
      log: also gets the lines, and those of the log steps where a bar is shown.
    """

    def __init__(
        self,
        total: int,
        batch_size: int,
        steps_per_epoch: float,
        start_step: int = 0,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._total = total
        self._batch_size = batch_size
        self._steps_per_epoch = steps_per_epoch
        self._enabled = enabled
        self._log = log
        self._rate = Rate(clock)
        self._bar: tqdm | None = None
        if enabled and sys.stderr.isatty():
            self._bar = tqdm(
                total=total,
                initial=start_step,
                file=sys.stderr,
                dynamic_ncols=True,
                bar_format="{n_fmt}/{total_fmt} |{bar}| {percentage:.0f}%{postfix}",
            )

    @property
    def images_per_s(self) -> float | None:
        """Mean over this session; None before a second step has ended."""
        mean = self._rate.mean
        return None if mean is None else mean * self._batch_size

    @property
    def step_s(self) -> float | None:
        """Seconds a step between the last two log steps; None before the second."""
        recent = self._rate.recent
        return None if recent is None else 1 / recent

    def update(
        self, step: int, values: Mapping[str, SupportsFloat] | None = None
    ) -> None:
        """Notes that `step` has ended; `values` are given at log steps.

        Rates are those of the calls with values, so make these once the step's
        results are there: a dispatched step has not run yet.
        """
        if values is None:
            self._rate.start(step)
        else:
            self._rate.mark(step)
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
        if values is None:
            return
        fields = self._fields(step, values)
        done = f"step {step}/{self._total} ({100 * step / self._total:.1f}%)"
        epoch = f"epoch {step / self._steps_per_epoch:.1f}"
        line = " ".join([done, epoch, *fields])
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(fields))
            self._log(line)
        else:
            self.note(line)

    def _fields(self, step: int, values: Mapping[str, SupportsFloat]) -> list[str]:
        fields = [f"{name} {float(value):.4g}" for name, value in values.items()]
        if self._rate.recent is not None:
            fields.append(f"{self._rate.recent * self._batch_size:.0f} img/s")
        if self._rate.mean is not None:
            left = (self._total - step) / self._rate.mean
            fields.append(f"{format_duration(left)} left")
        return fields

    def note(self, text: str) -> None:
        """Prints a line to stdout; a bar on the terminal stays whole."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stdout)
            sys.stdout.flush()
        elif self._enabled:
            print(text, flush=True)
        if self._enabled:
            self._log(text)

    def pause(self) -> AbstractContextManager[None]:
        """Leaves out of all rates the time that passes inside: evaluation, saving."""
        return self._rate.pause()

    def close(self) -> None:
        """Leaves the bar as it stands. Notes after it are plain lines."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def format_duration(seconds: float) -> str:
    """`seconds`, rounded, as h:mm:ss; hours are not folded into days."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
