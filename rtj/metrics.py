"""What a run writes while it goes: JSON lines and TensorBoard scalars.

A workdir holds `metrics.jsonl`, one JSON object a line with `step`, `kind` ('train',
'eval', or 'speed' for the times, which no two runs share) and the values, and
`tensorboard/`, the same scalars as `kind/name`. JSON has no NaN or infinity, so those
are written as the strings "nan", "inf" and "-inf" and read back as floats by
`read_metrics`.
"""

import json
import math
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Self, SupportsFloat, TextIO, get_args

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from rtj.errors import DataError

Kind = Literal["train", "eval", "speed"]
RESULTS: tuple[Kind, ...] = ("train", "eval")
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


def read_metrics(
    workdir: Path, kinds: Collection[Kind] = RESULTS
) -> list[dict[str, Any]]:
    """Reads the lines of `workdir`/metrics.jsonl of these kinds, in the order written.

    Returns [] if there is no file. A last line that a killed run left unfinished is
    left out.

    Raises:
      DataError: any other line is not what `MetricsWriter` writes.
    """
    records = [record for _, record in _read_lines(Path(workdir) / METRICS_FILE)]
    return [record for record in records if record["kind"] in kinds]


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
        _drop_after(path, {"train": start_step, "speed": start_step, "eval": known})
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
