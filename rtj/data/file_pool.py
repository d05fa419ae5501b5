"""Reading parts of many files from several threads with few of them open."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable


class _Descriptor:
    """An open file; closed when the last thread that reads from it lets go."""

    def __init__(self, number: int) -> None:
        self.number = number

    # A default: when the interpreter ends, `os` may be gone before the last file.
    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.number)


class FilePool:
    """Keeps the files read last open, at most `limit` of them (and one more a thread).

    A file that leaves the pool is closed after the reads in flight, never under them:
    its number could belong to another file by then.
    """

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._open: OrderedDict[str, _Descriptor] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer at the end of the file; or OSError."""
        file = self._descriptor(path)  # the name keeps it open during the read
        return os.pread(file.number, size, offset)

    def close(self) -> None:
        """Closes all files; a later read opens its file again."""
        with self._lock:
            self._open.clear()

    def _descriptor(self, path: str) -> _Descriptor:
        with self._lock:
            if path in self._open:
                self._open.move_to_end(path)
                return self._open[path]
        # Not under the lock: opening takes milliseconds on a network's file system.
        new = _Descriptor(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        with self._lock:
            file = self._open.setdefault(path, new)
            self._open.move_to_end(path)
            if len(self._open) > self._limit:
                self._open.popitem(last=False)
        return file
