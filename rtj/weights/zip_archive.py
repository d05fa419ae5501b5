"""Zip files from strangers: no bombs, no doubled names, no half files.

Python's zipfile never reads an entry past its declared size and checks its CRC, so
checking the declared sizes before anything is read bounds the real ones as well.
"""

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rtj.weights.weight_file import check_size, some, unreadable


class ZipArchive:
    """A checked zip file; `names` are its entries."""

    def __init__(self, archive: zipfile.ZipFile, path: Path):
        self._archive = archive
        self._path = path
        self.names = frozenset(archive.namelist())

    def read(self, name: str) -> bytes:
        """One entry.

        Raises:
            CheckpointError: the entry is damaged.
        """
        info = self._archive.getinfo(name)
        try:
            data = self._archive.read(info)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            NotImplementedError,
            RuntimeError,
            ValueError,
        ) as error:
            raise unreadable(self._path, f"entry {name!r}: {error}") from error
        if len(data) != info.file_size:
            raise unreadable(
                self._path,
                f"entry {name!r} is declared as {info.file_size} bytes and has "
                f"{len(data)}",
            )
        return data


@contextmanager
def open_zip(
    path: Path, *, max_bytes: int, compressed: bool = True
) -> Iterator[ZipArchive]:
    """A zip file whose table of contents has been checked.

    Args:
        max_bytes: of all entries together, unpacked.
        compressed: whether compressed entries are allowed. Without them no file
            can unpack to more than its own size.

    Raises:
        CheckpointError: not a whole zip file, too large, or a name twice.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise unreadable(path, f"not a whole zip file ({error})") from error
    with archive:
        infos = archive.infolist()
        check_size(path, sum(info.file_size for info in infos), max_bytes)
        doubled = [n for n, times in Counter(archive.namelist()).items() if times > 1]
        if doubled:
            raise unreadable(path, f"it holds a name twice: {some(doubled)}")
        packed = [i.filename for i in infos if i.compress_type != zipfile.ZIP_STORED]
        if packed and not compressed:
            raise unreadable(
                path,
                f"entries are compressed, which torch.save never does: {some(packed)}",
            )
        if sum(info.compress_size for info in infos) > path.stat().st_size:
            raise unreadable(path, "its entries overlap: they are larger than the file")
        yield ZipArchive(archive, path)
