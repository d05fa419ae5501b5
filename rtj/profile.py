"""A profiler trace of a few steps, for TensorBoard, XProf or Perfetto."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from rtj.errors import ConfigError


@dataclass(frozen=True)
class ProfileSteps:
    """The steps `start` to `stop` - 1, numbered from 1 as in the metrics."""

    start: int
    stop: int


def parse_profile(text: str) -> ProfileSteps | None:
    """START:STOP; "" is None.

    Raises:
        ConfigError: anything else, or not 1 <= START < STOP.
    """
    if not text:
        return None
    start, _, stop = text.partition(":")
    if not (start.isdecimal() and stop.isdecimal() and 1 <= int(start) < int(stop)):
        raise ConfigError(
            f"--profile={text!r}; allowed: START:STOP, the steps START to STOP - 1, "
            "with 1 <= START < STOP"
        )
    return ProfileSteps(int(start), int(stop))


def check_profile(steps: ProfileSteps | None, total_steps: int) -> None:
    """Raise ConfigError for steps that the run does not have."""
    if steps is not None and steps.stop > total_steps + 1:
        raise ConfigError(
            f"--profile={steps.start}:{steps.stop}, but the run has {total_steps} "
            f"steps; allowed: STOP up to {total_steps + 1}"
        )


class Profile:
    """While entered, traces its steps into `folder`; None traces nothing.

    A run that resumes past START starts the trace at once, one past STOP makes none.
    """

    def __init__(self, steps: ProfileSteps | None, folder: Path) -> None:
        self._steps = steps
        self._folder = folder
        self._tracing = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def before(self, step: int, state: Any) -> None:
        """To be called before `step` is dispatched; `state` is what it starts from."""
        if self._steps is None or not self._steps.start <= step <= self._steps.stop:
            return
        if step == self._steps.stop:
            jax.block_until_ready(state)
            self._stop()
        elif not self._tracing:
            jax.block_until_ready(state)  # the step before is not in the trace
            jax.profiler.start_trace(self._folder)
            self._tracing = True

    def finish(self, state: Any) -> None:
        """To be called after the last step."""
        if self._tracing:
            jax.block_until_ready(state)
            self._stop()

    def _stop(self) -> None:
        if self._tracing:
            self._tracing = False
            jax.profiler.stop_trace()
