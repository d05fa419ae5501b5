"""A run's folder, read back: `load_run`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ml_collections import ConfigDict

from rtj.errors import CheckpointError, ConfigError, DataError, unknown
from rtj.metrics import METRICS_FILE, read_metrics
from rtj.study.metrics import CLASSIFICATION, result_keys
from rtj.weights.npz import read_npz
from rtj.weights.run_folder import read_config
from rtj.workdir import read_result, read_starts

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
CONFIG_FILE = "config.json"
PREDICTIONS_FILE = "predictions.npz"
_PREDICTIONS = ("index", "label", "prediction")
_MAX_BYTES = 2**30  # of predictions, unpacked: 89 million images
_LENGTHS = ("total_steps", "steps_per_epoch")
_FRAMES = ("train", "eval")


@dataclass(frozen=True, eq=False)  # arrays have no ==
class LoadedRun:
    """What a run has written so far.

    Attributes:
        config: the resolved config, locked.
        result: the last line of a finished run (scores as fractions of 1), None before.
        starts: one dict a start, the oldest first; see `rtj.workdir`.
        metrics: the train and eval rows of metrics.jsonl in the order written, each
            with its `epoch`, a float.
        predictions: int32 arrays `index`, `label` and `prediction`, (N,) each: the last
            evaluation of a finished classifier. None: none were written.
    """

    workdir: Path
    config: ConfigDict
    result: Row | None
    starts: list[Row]
    metrics: list[Row]
    predictions: dict[str, np.ndarray] | None

    @property
    def finished(self) -> bool:
        """Whether the run has trained to its end."""
        return self.result is not None

    @property
    def step(self) -> int:
        """The newest step that anything was written of; 0 if nothing was."""
        return max((row["step"] for row in self.metrics), default=0)

    @property
    def total_steps(self) -> int | None:
        """The run's length in steps, None if no start has recorded it."""
        return self.starts[-1].get("total_steps") if self.starts else None

    def rows(self, kind: str) -> list[Row]:
        """The metrics of kind 'train' or 'eval'."""
        return [row for row in self.metrics if row["kind"] == kind]

    def frame(self, kind: str = "eval") -> "pd.DataFrame":
        """The rows of a kind ('train' or 'eval') as a table: step, epoch, values.

        Raises:
            ConfigError: pandas is not installed, or `kind` is another word.
        """
        if kind not in _FRAMES:
            raise unknown("kind", kind, _FRAMES)
        try:
            import pandas as pd
        except ImportError as error:
            raise ConfigError(
                "pandas is missing; install it with pip install 'rtj[notebook]'"
            ) from error
        rows = self.rows(kind)
        first = ("step", "epoch")
        names = dict.fromkeys((*first, *(key for row in rows for key in row)))
        return pd.DataFrame(rows, columns=[name for name in names if name != "kind"])


def load_run(workdir: str | Path) -> LoadedRun:
    """Reads a run's folder, of a run that is finished, stopped or still going on.

    A last line that a killed run left unfinished is left out.

    Raises:
        DataError: names the folder and what is wrong: it is no run's, or a file in it
            is damaged.
    """
    workdir = Path(workdir)
    try:
        return _load(workdir)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{workdir} cannot be read: {error}") from error


def _load(workdir: Path) -> LoadedRun:
    if not (workdir / CONFIG_FILE).is_file():
        what = (
            "it has no config.json" if workdir.is_dir() else "there is no such folder"
        )
        raise DataError(f"{workdir} is not a run: {what}")
    try:
        config = read_config(workdir)
    except CheckpointError as error:
        raise DataError(str(error)) from error  # which names the file
    assert config is not None  # there is one
    starts = _check_starts(workdir)
    result = _check_result(workdir, config.task)
    metrics = read_metrics(workdir)
    if metrics:
        per_epoch = _steps_per_epoch(workdir, starts)
        for row in metrics:
            row["epoch"] = row["step"] / per_epoch
    return LoadedRun(
        workdir=workdir,
        config=config.lock(),
        result=result,
        starts=starts,
        metrics=metrics,
        predictions=_read_predictions(workdir / PREDICTIONS_FILE)
        if config.task == CLASSIFICATION
        else None,
    )


def _check_starts(workdir: Path) -> list[Row]:
    starts = read_starts(workdir)
    for start in starts:
        for key in _LENGTHS:
            value = start.get(key, 1) if isinstance(start, dict) else start
            if not _is_number(value):
                raise DataError(
                    f"{workdir}: starts.jsonl is damaged: {key}={value!r} is no number"
                )
    return starts


def _check_result(workdir: Path, task: str) -> Row | None:
    try:
        result = read_result(workdir)
    except ValueError as error:
        raise DataError(f"{workdir}: result.json is damaged: {error}") from error
    for key in () if result is None else result_keys(task):
        value = result.get(key) if isinstance(result, dict) else result
        if not _is_number(value):
            raise DataError(
                f"{workdir}: result.json is damaged: {key}={value!r} is no number"
            )
    return result


def _steps_per_epoch(workdir: Path, starts: Sequence[Row]) -> float:
    value: Any = starts[-1].get("steps_per_epoch") if starts else None
    if not _is_number(value) or not 0 < value < math.inf:
        raise DataError(
            f"{workdir}: starts.jsonl has no steps_per_epoch ({value!r}), so the "
            f"epochs of {METRICS_FILE} are unknown"
        )
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _read_predictions(path: Path) -> dict[str, np.ndarray] | None:
    if not path.is_file():
        return None
    try:
        tensors = read_npz(path, _MAX_BYTES).tensors
        arrays = {name: tensors[name] for name in _PREDICTIONS}
    except CheckpointError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    except KeyError as error:
        raise DataError(f"{path} is damaged: {error} is missing") from error
    shapes = {array.shape for array in arrays.values()}
    kinds = {array.dtype.kind for array in arrays.values()}
    if len(shapes) != 1 or len(shapes.pop()) != 1 or not kinds <= {"i", "u"}:
        found = ", ".join(f"{k}: {a.dtype}{a.shape}" for k, a in arrays.items())
        raise DataError(
            f"{path} is damaged: {found}; allowed: three integer arrays of one length"
        )
    for name, array in arrays.items():
        if array.size and array.min() < 0:
            raise DataError(f"{path} is damaged: {name} holds {array.min()}, below 0")
    return arrays
