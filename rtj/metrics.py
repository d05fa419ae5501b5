"""What a run writes while it goes: JSON lines and TensorBoard scalars.

A workdir holds `metrics.jsonl`, one JSON object a line with `step`, `kind` ('train',
'eval', or 'speed' for the times, which no two runs share) and the values, and
`tensorboard/`, the same scalars as `kind/name`. JSON has no NaN or infinity, so those
are written as the strings "nan", "inf" and "-inf" and read back as floats by
`read_metrics`.
"""

import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Self, SupportsFloat, get_args

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from rtj.atomic_file import write_errors
from rtj.json_lines import LineFile, Record, from_json, read_lines, to_json

Kind = Literal["train", "eval", "speed"]
RESULTS: tuple[Kind, ...] = ("train", "eval")
METRICS_FILE = "metrics.jsonl"
TENSORBOARD_DIR = "tensorboard"


def _to_json(step: int, kind: Kind, values: Mapping[str, SupportsFloat]) -> str:
    record: dict[str, Any] = {"step": int(step), "kind": kind}
    for name, value in values.items():
        if name in record:
            raise ValueError(f"metric name {name!r} is reserved; use another name")
        record[name] = value if isinstance(value, int) else float(value)
    return to_json(record)


def _from_json(line: bytes) -> Record:
    record = from_json(line)
    if record.get("kind") not in get_args(Kind):
        raise ValueError(f"'kind' is not one of {', '.join(get_args(Kind))}")
    return record


def read_metrics(
    workdir: Path, kinds: Collection[Kind] = RESULTS
) -> list[dict[str, Any]]:
    """Reads the lines of `workdir`/metrics.jsonl of these kinds, in the order written.

    Returns [] if there is no file. A last line that a killed run left unfinished is
    left out.

    Raises:
      DataError: any other line is not what `MetricsWriter` writes.
    """
    pairs = read_lines(Path(workdir) / METRICS_FILE, _from_json)
    return [record for _, record in pairs if record["kind"] in kinds]


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
        evaluation after it makes that evaluation again, so its line is forgotten.
      enabled: False writes nothing, for all processes but the first.

    Raises:
      DataError: metrics.jsonl has a line that is no metrics line.
      CheckpointError: a file cannot be written, here or later.
    """

    def __init__(
        self,
        workdir: Path,
        start_step: int,
        enabled: bool = True,
        eval_step: int | None = None,
    ) -> None:
        self._lines: LineFile | None = None
        self._events: EventsWriter | None = None
        if not enabled:
            return
        known = start_step if eval_step is None else eval_step
        last = {"train": start_step, "speed": start_step, "eval": known}
        self._logs = Path(workdir) / TENSORBOARD_DIR
        with write_errors(self._logs):
            self._logs.mkdir(parents=True, exist_ok=True)
        self._lines = LineFile(
            Path(workdir) / METRICS_FILE,
            _from_json,
            lambda record: record["step"] <= last[record["kind"]],
        )
        # Written directly rather than by SummaryWriter, whose queue is lost in a kill.
        # Event files are named by the second: the suffix keeps two sessions apart.
        with write_errors(self._logs):
            self._events = EventsWriter(
                str(self._logs / "events"), f".{time.time_ns()}"
            )
        start = SessionLog(status=SessionLog.START)
        self._write_event(step=start_step + 1, session_log=start)

    def write(self, step: int, kind: Kind, values: Mapping[str, SupportsFloat]) -> None:
        """Writes `values`, floats or 0-d arrays by name, as those of `step`.

        Raises:
          ValueError: a value is named 'step' or 'kind'.
          CheckpointError: names the file that cannot be written.
        """
        if self._lines is None:
            return
        self._lines.write(_to_json(step, kind, values))
        scalars = [
            Summary.Value(tag=f"{kind}/{name}", simple_value=float(value))
            for name, value in values.items()
        ]
        self._write_event(step=int(step), summary=Summary(value=scalars))

    def _write_event(self, **fields: Any) -> None:
        # Taken away from `close`, which would flush a writer that failed once more.
        events, self._events = self._events, None
        if events is not None:
            with write_errors(self._logs):
                events.write_event(Event(wall_time=time.time(), **fields))
                events.flush()
        self._events = events

    def close(self) -> None:
        """Closes the files; `write` writes nothing afterwards."""
        lines, self._lines = self._lines, None
        events, self._events = self._events, None
        if lines is not None:
            lines.close()
        if events is not None:
            with write_errors(self._logs):
                events.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
