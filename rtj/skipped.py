"""`skipped.jsonl`: the steps whose update was not made, and the batches they had.

A workdir gets a JSON line for each step whose loss or gradients were not finite, and
for one that `train.max_loss_ratio` ended the run at:

| key | value |
|---|---|
| `step`, `reason` | from 1; "not finite" or "loss ratio" |
| `loss`, `grad_norm`, `lr`, `loss_scale` | of that step; the last is null but in fp16 |
| `checkpoint` | the newest step that was saved by then, or null |
| `index` | positions of the batch's examples in the training split |
| `names` | the data set's own ids of these, null where one could not be read again |

As in `metrics.jsonl`, numbers that are not finite are "nan", "inf" and "-inf", and a
resumed run forgets the lines past its step, which it writes again. Of more than 8 MiB
the newest 4 are kept.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import jax
import numpy as np
from jax.experimental import multihost_utils

from rtj.data.examples import Listed
from rtj.json_lines import LineFile, Record, from_json, read_lines, to_json
from rtj.task import Data

SKIPPED_FILE = "skipped.jsonl"
MAX_BYTES = 8 * 2**20
_SHOWN = 3
_LABELS = {
    "loss": "loss",
    "grad_norm": "gradient norm",
    "lr": "learning rate",
    "loss_scale": "loss scale",
}


def read_skipped(workdir: Path) -> list[Record]:
    """The lines of `workdir`/skipped.jsonl; [] without the file.

    Raises:
        DataError: a line that is none; the last one may be unfinished.
    """
    pairs = read_lines(Path(workdir) / SKIPPED_FILE, from_json)
    return [record for _, record in pairs]


def example_names(source: Data, indices: Sequence[int]) -> list[str | None]:
    """What `source` calls its examples, from its list or by reading each again."""
    return [_name(source, index) for index in indices]


def _name(source: Data, index: int) -> str | None:
    try:
        if isinstance(source, Listed):
            return source.label_and_id(index)[1]
        return str(source[index]["id"])
    except Exception:  # a report of a skip must not be what ends the run
        return None


class SkippedSteps:
    """Appends to `skipped.jsonl`, and says in short what it holds.

    Args:
        workdir: there already.
        start_step: the step the run starts from; lines past it are forgotten.
        source: the training examples.
        newest_checkpoint: gives the newest step that is saved, or None.
        enabled: False writes nothing, for all processes but the first.

    Raises:
        DataError: the file has a line that is none. CheckpointError: it cannot be
            written.
    """

    def __init__(
        self,
        workdir: Path,
        start_step: int,
        source: Data,
        newest_checkpoint: Callable[[], int | None],
        enabled: bool = True,
    ) -> None:
        self._path = Path(workdir) / SKIPPED_FILE
        self._source = source
        self._newest_checkpoint = newest_checkpoint
        self._enabled = enabled
        self._file: LineFile | None = None
        if enabled and self._path.exists():
            self._open(lambda record: record["step"] <= start_step)

    def _open(self, keep: Callable[[Record], bool]) -> LineFile:
        self.close()
        self._file = LineFile(self._path, from_json, keep)
        return self._file

    def add(
        self, step: int, values: Mapping[str, float], index: jax.Array, reason: str
    ) -> str:
        """Writes the line of `step`; all processes call it, at the same step.

        Args:
            values: the step's metrics.
            index: int32 (B,), of the whole batch, on the devices of all processes.

        Returns:
            The numbers, the first examples and the newest checkpoint, for messages.

        Raises:
            CheckpointError: the file cannot be written.
        """
        indices = np.asarray(multihost_utils.process_allgather(index, tiled=True))
        examples = indices[indices >= 0].tolist()
        checkpoint = self._newest_checkpoint()
        wanted = len(examples) if self._enabled else _SHOWN
        names = example_names(self._source, examples[:wanted])
        if self._enabled:
            facts = {name: values.get(name) for name in _LABELS}
            self._write(
                {"step": step, "reason": reason, **facts, "checkpoint": checkpoint}
                | {"index": examples, "names": names}
            )
        return _in_short(step, values, examples, names[:_SHOWN], checkpoint)

    def _write(self, record: Record) -> None:
        file = self._file or self._open(lambda record: True)
        file.write(to_json(record))
        if self._path.stat().st_size > MAX_BYTES:
            first = _first_of_newest(self._path, MAX_BYTES // 2)
            self._open(lambda record: record["step"] >= first)

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _first_of_newest(path: Path, size: int) -> int:
    """The step of the oldest of the newest lines that fit in `size` bytes."""
    total, first = 0, 0
    for line, record in reversed(read_lines(path, from_json)):
        total += len(line) + 1
        if first and total > size:
            break
        first = record["step"]
    return first


def _in_short(
    step: int,
    values: Mapping[str, float],
    examples: Sequence[int],
    names: Sequence[str | None],
    checkpoint: int | None,
) -> str:
    numbers = [f"{_LABELS[key]} {values[key]:g}" for key in _LABELS if key in values]
    # A file's name may hold a newline.
    shown = [
        str(index) if name is None else f"{index} ({name!r})"
        for index, name in zip(examples, names, strict=False)
    ]
    rest = ", ..." if len(examples) > len(shown) else ""
    back = "no checkpoint yet"
    if checkpoint is not None:
        back = f"newest checkpoint: step {checkpoint}"
        if checkpoint == step - 1:
            back += ", whose weights gave this loss"
    return (
        f"{', '.join(numbers)}; examples {', '.join(shown)}{rest} (all {len(examples)} "
        f"in {SKIPPED_FILE}); {back}"
    )
