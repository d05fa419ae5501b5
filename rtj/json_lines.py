"""Files of JSON lines that a run appends to and, resumed, goes on with."""

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from rtj.atomic_file import replaced, write_errors
from rtj.errors import DataError

Record = dict[str, Any]
Parse = Callable[[bytes], Record]
_NON_FINITE = ("nan", "inf", "-inf")


def read_lines(path: Path, parse: Parse) -> list[tuple[bytes, Record]]:
    """Pairs of a whole line, without its newline, and what it says; [] without a file.

    A last line that a killed run left unfinished is left out.

    Args:
        parse: raises ValueError for what is no line of this file.

    Raises:
        DataError: another line than the last is none.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    pairs = []
    for number, line in enumerate(lines, start=1):
        try:
            pairs.append((line, parse(line)))
        except ValueError as error:
            if number == len(lines):
                break
            raise DataError(
                f"{path}, line {number}: {error}; only the last line may be unfinished."
                " Mend or remove the line"
            ) from error
    return pairs


class LineFile:
    """Appends lines to `path`; each is on its way to disk after `write`.

    Opening keeps the whole lines of an earlier session that `keep` says yes to, so that
    a resumed run has neither torn nor duplicated ones. A kill meanwhile leaves either
    the old file or the new one.

    Raises:
        DataError: as `read_lines`. CheckpointError: the disk is full, or the like.
    """

    def __init__(
        self, path: Path, parse: Parse, keep: Callable[[Record], bool]
    ) -> None:
        self._path = path
        pairs = read_lines(path, parse)
        wanted = b"".join(line + b"\n" for line, record in pairs if keep(record))
        with write_errors(path):
            if path.exists() and wanted != path.read_bytes():
                self._replace(wanted)
            self._file: BinaryIO | None = path.open("ab")

    def _replace(self, content: bytes) -> None:
        with replaced(self._path) as partial:
            partial.write_bytes(content)

    def write(self, line: str) -> None:
        """Appends `line`, which ends in a newline.

        Raises:
            CheckpointError: names the file, which is closed now.
        """
        if self._file is None:
            return
        with write_errors(self._path):
            try:
                self._file.write(line.encode())
                self._file.flush()
            except OSError:
                with contextlib.suppress(OSError):  # it flushes once more
                    self._file.close()
                self._file = None
                raise

    def close(self) -> None:
        """Closes the file; `write` writes nothing afterwards."""
        file, self._file = self._file, None
        if file is not None:
            with write_errors(self._path):
                file.close()


def to_json(record: Record) -> str:
    """A line of strict JSON: its NaN and infinities are "nan", "inf" and "-inf"."""
    plain = {
        name: str(v) if isinstance(v, float) and not math.isfinite(v) else v
        for name, v in record.items()
    }
    return json.dumps(plain, allow_nan=False) + "\n"


def from_json(line: bytes) -> Record:
    """What `to_json` was given.

    Raises:
        ValueError: not a JSON object with an integer `step`.
    """
    record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get("step"), int):
        raise ValueError("not a JSON object with an integer 'step'")
    return {name: float(v) if _is_non_finite(v) else v for name, v in record.items()}


def _is_non_finite(value: object) -> bool:
    return isinstance(value, str) and value in _NON_FINITE
