"""What a run writes while it goes: JSON lines, TensorBoard scalars, progress.

A workdir holds `metrics.jsonl`, one JSON object a line with `step`, `kind` ('train'
or 'eval') and the values, and `tensorboard/`, the same scalars as `kind/name`. JSON
has no NaN or infinity, so those are written as the strings "nan", "inf" and "-inf"
and read back as floats by `read_metrics`.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, Self, SupportsFloat, TextIO, get_args

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tqdm import tqdm

from rtj.errors import DataError

Kind = Literal["train", "eval"]
METRICS_FILE = "metrics.jsonl"
TENSORBOARD_DIR = "tensorboard"
NON_FINITE = ("nan", "inf", "-inf")


def _to_json(step: int, kind: Kind, values: Mapping[str, SupportsFloat]) -> str:
    record: dict[str, Any] = {"step": int(step), "kind": kind}
    for name, value in values.items():
        if name in record:
            raise ValueError(f"metric name {name!r} is reserved; use another name")
        number = value if isinstance(value, int) else float(value)
        record[name] = number if math.isfinite(number) else str(number)
    return json.dumps(record, allow_nan=False) + "\n"


def _from_json(line: bytes) -> dict[str, Any]:
    record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        raise ValueError("not a JSON object with an integer 'step'")
    if record.get("kind") not in get_args(Kind):
        raise ValueError(f"'kind' is not one of {', '.join(get_args(Kind))}")
    return {k: float(v) if v in NON_FINITE else v for k, v in record.items()}


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """Reads every line of `workdir`/metrics.jsonl, in the order written.

    Returns [] if there is no file. A last line that a killed run left unfinished is
    left out.

    Raises:
      DataError: any other line is not what `MetricsWriter` writes.
    """
    return [record for _, record in _read_lines(Path(workdir) / METRICS_FILE)]


def _read_lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Pairs of a whole line, without its newline, and what it says."""
    if not path.exists():
        return []
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    pairs = []
    for number, line in enumerate(lines, start=1):
        try:
            pairs.append((line, _from_json(line)))
        except ValueError as error:
            if number == len(lines):
                break
            raise DataError(
                f"{path}, line {number}: {error}; only the last line may be unfinished."
                " Mend or remove the line"
            ) from error
    return pairs


def _drop_after(path: Path, last: Mapping[str, int]) -> None:
    """Leaves the whole lines up to the `last` step of their kind in `path`.

    A kill meanwhile leaves either the old file or the new one.
    """
    if not path.exists():
        return
    kept = [
        line
        for line, record in _read_lines(path)
        if record["step"] <= last[record["kind"]]
    ]
    wanted = b"".join(line + b"\n" for line in kept)
    if wanted == path.read_bytes():
        return
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(wanted)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


class MetricsWriter:
    """Appends metrics to a workdir; each line is on its way to disk after `write`.

    Opened at `start_step` k, it forgets what an earlier session wrote past step k (and
    a last line that session left unfinished), so that a resumed run has neither torn
    nor duplicated lines. TensorBoard hides its events past k by a session-start event.

    Args:
      workdir: made if missing.
      start_step: the step the run starts from; 0 for a new run.
      eval_step: the step of the newest evaluation that the run knows of, at most
        `start_step`; None is `start_step`. A run killed between a checkpoint and the
        evaluation after it makes that evaluation again.
      enabled: False writes nothing, for all processes but the first.
      eval_step: the last step whose evaluation the run knows of, if it is not
        `start_step`; 'eval' lines past it are forgotten, as the run writes them again.

    Raises:
      DataError: metrics.jsonl has a line that is no metrics line.
    """

    def __init__(
        self,
        workdir: Path,
        start_step: int,
        enabled: bool = True,
        eval_step: int | None = None,
    ) -> None:
        self._file: TextIO | None = None
        self._events: EventsWriter | None = None
        if not enabled:
            return
        path = Path(workdir) / METRICS_FILE
        logs = Path(workdir) / TENSORBOARD_DIR
        logs.mkdir(parents=True, exist_ok=True)
        known = start_step if eval_step is None else eval_step
        _drop_after(path, {"train": start_step, "eval": known})
        self._file = path.open("a", encoding="utf-8")
        # Written directly rather than by SummaryWriter, whose queue is lost in a kill.
        # Event files are named by the second: the suffix keeps two sessions apart.
        self._events = EventsWriter(str(logs / "events"), f".{time.time_ns()}")
        start = SessionLog(status=SessionLog.START)
        self._write_event(step=start_step + 1, session_log=start)

    def write(self, step: int, kind: Kind, values: Mapping[str, SupportsFloat]) -> None:
        """Writes `values`, floats or 0-d arrays by name, as those of `step`.

        Raises:
          ValueError: a value is named 'step' or 'kind'.
        """
        if self._file is None:
            return
        self._file.write(_to_json(step, kind, values))
        self._file.flush()
        scalars = [
            Summary.Value(tag=f"{kind}/{name}", simple_value=float(value))
            for name, value in values.items()
        ]
        self._write_event(step=int(step), summary=Summary(value=scalars))

    def _write_event(self, **fields: Any) -> None:
        assert self._events is not None
        self._events.write_event(Event(wall_time=time.time(), **fields))
        self._events.flush()

    def close(self) -> None:
        """Closes the files; `write` writes nothing afterwards."""
        if self._file is not None and self._events is not None:
            self._file.close()
            self._events.close()
            self._file = self._events = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
    """

    def __init__(
        self,
        total: int,
        batch_size: int,
        steps_per_epoch: float,
        start_step: int = 0,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total
        self._batch_size = batch_size
        self._steps_per_epoch = steps_per_epoch
        self._enabled = enabled
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
            if values is not None:
                self._bar.set_postfix_str(", ".join(self._fields(step, values)))
        elif values is not None:
            done = f"step {step}/{self._total} ({100 * step / self._total:.1f}%)"
            epoch = f"epoch {step / self._steps_per_epoch:.1f}"
            self.note(" ".join([done, epoch, *self._fields(step, values)]))

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
