"""Reads TFRecord files without TensorFlow.

A record is its length (uint64, little-endian), the masked CRC-32C of these eight
bytes, the data, and the masked CRC-32C of the data (TensorFlow,
`lib/io/record_writer.h`). Files are read once, from front to back.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from rtj.data.prepare.crc32c import crc32c, masked
from rtj.errors import DataError

_HEAD = struct.Struct("<QI")
_FOOT = struct.Struct("<I")
# Fewer, larger reads; 1 MiB is also what network file systems fetch at once.
_BUFFER = 1 << 20


def read_records(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The records of a file, in order.

    Raises:
        DataError: the file cannot be read, ends within a record, or a checksum does
            not fit; names the file and the offset of the record in bytes.
    """
    path = Path(path)
    try:
        with path.open("rb", buffering=_BUFFER) as file:
            size = os.fstat(file.fileno()).st_size
            offset = 0
            while offset < size:
                head = file.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    raise _truncated(path, offset, size)
                length, length_crc = _HEAD.unpack(head)
                if masked(crc32c(head[:8])) != length_crc:
                    raise _corrupt(path, offset, "length")
                end = offset + _HEAD.size + length + _FOOT.size
                if end > size:
                    raise _truncated(path, offset, size)
                data = file.read(length)
                (data_crc,) = _FOOT.unpack(file.read(_FOOT.size))
                if masked(crc32c(data)) != data_crc:
                    raise _corrupt(path, offset, "data")
                yield data
                offset = end
    except (OSError, struct.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _truncated(path: Path, offset: int, size: int) -> DataError:
    return DataError(
        f"{path}: the record at byte {offset} is cut off, the file ends at byte "
        f"{size}; copy or prepare this file again"
    )


def _corrupt(path: Path, offset: int, what: str) -> DataError:
    return DataError(
        f"{path}: the record at byte {offset} has a wrong checksum of its {what} "
        "(damaged, or not a TFRecord file); copy or prepare this file again"
    )
