"""`log.txt`: what the console shows of a run, with times, over all of its starts.

Times are UTC. At 10 MB the file becomes `log.txt.1`, and that one `log.txt.2`; older
lines are gone.
"""

import contextlib
import logging
import logging.handlers
import sys
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import Self

from rtj.errors import CheckpointError, RtjError

LOG_FILE = "log.txt"
MAX_BYTES = 10_000_000
_OLDER_FILES = 2


class RunLog:
    """While entered, also takes what rtj's own loggers warn of.

    An error that leaves the block is logged and goes on. Nothing is open until the
    first line.

    Args:
        workdir: there already.
        enabled: False writes nothing, for all processes but the first.
    """

    def __init__(self, workdir: Path, enabled: bool = True) -> None:
        self._file = _LogFile(Path(workdir) / LOG_FILE) if enabled else None
        self._handlers: list[logging.Handler] = []

    def write(self, text: str) -> None:
        """Appends each line of `text`, with the time.

        Raises:
            CheckpointError: the file cannot be written.
        """
        if self._file is not None:
            for line in text.splitlines():
                self._file.handle(logging.makeLogRecord({"msg": line}))

    def __enter__(self) -> Self:
        if self._file is not None:
            self._handlers.append(self._file)
            # A logger with a handler no longer falls back on this one.
            if logging.lastResort and not _logger().hasHandlers():
                self._handlers.append(logging.lastResort)
        for handler in self._handlers:
            _logger().addHandler(handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handler in self._handlers:
            _logger().removeHandler(handler)
        if self._file is None:
            return
        try:
            if error is not None:
                # It may be that this very file cannot be written.
                with contextlib.suppress(CheckpointError):
                    self.write(_described(error))
        finally:
            self._file.close()


def _logger() -> logging.Logger:
    return logging.getLogger("rtj")


def _described(error: BaseException) -> str:
    if isinstance(error, RtjError):
        return f"rtj: {' '.join(str(error).split())}"
    return "".join(traceback.format_exception(error))


class _LogFile(logging.handlers.RotatingFileHandler):
    """Raises CheckpointError where logging would print a traceback and go on."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            path,
            maxBytes=MAX_BYTES,
            backupCount=_OLDER_FILES,
            encoding="utf-8",
            errors="backslashreplace",
            delay=True,
        )
        self._path = path
        formatter = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, CheckpointError):
            raise error  # from below, seen once more on its way out
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        # Closing writes what is buffered once more; left open, the interpreter would.
        stream, self.stream = self.stream, None
        with contextlib.suppress(OSError):
            if stream is not None:
                stream.close()
        raise CheckpointError(f"{str(self._path)!r} cannot be written: {error}")
