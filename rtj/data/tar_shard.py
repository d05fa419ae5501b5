"""The samples of one WebDataset shard, from its headers and labels alone.

A sample is the files of one key: the name up to the first dot of its last part. Its
image is the file with an image's extension, its label the integer in `.cls`, or where
there is none, the integer `label`, `cls` or `class_id` of `.json`. Files that are
neither are left out, and so are hidden ones.
"""

import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from rtj.data.on_disk import IMAGE_SUFFIXES
from rtj.data.tar_splits import compressed
from rtj.errors import DataError

_MEMBER = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)
_ROLES = {"cls": "cls", "json": "json"} | {s[1:]: "image" for s in IMAGE_SUFFIXES}
_JSON_FIELDS = ("label", "cls", "class_id")
_MAX_LABEL = 2**31 - 1
_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gz, bz2, xz, zst
_BLOCK = 512
_PADDING = 1 << 20
_MAX_TEXT = 1 << 20  # bytes of a label or a name

_Place = tuple[int, int]  # offset and size, bytes


class Sample(NamedTuple):
    """Where an image lies in its shard, in bytes, and its label."""

    key: str
    offset: int
    size: int
    label: int


def read_shard(path: Path, name: str) -> list[Sample]:
    """The samples of a shard, in the order of their first files.

    Nothing is unpacked, and a member's name is a key and never a path. Links, folders
    and devices are no files of a sample, whatever they point to.

    Raises:
        DataError: the shard is compressed, damaged or cut off; a sample has no image
            or no label, or two; a label is no integer from 0 to 2^31 - 1; a `.cls` or
            `.json` or the header of a long name has over 1 MiB.
    """
    samples: dict[str, dict[str, _Place]] = {}
    try:
        with path.open("rb") as file:
            for member in _members(file):
                match = _MEMBER.fullmatch(member.name)
                role = _ROLES.get(match[2].lower()) if match else None
                if match is None or role is None or not member.isfile():
                    continue
                sample = samples.setdefault(match[1], {})
                if role in sample:
                    raise DataError(
                        f"{name}: {path} has two files for the {role} of the key "
                        f"{match[1]!r}, the second {member.name!r}; pack it again"
                    )
                sample[role] = (member.offset_data, member.size)
            return [_sample(file, *item, path, name) for item in samples.items()]
    except DataError:
        raise
    except Exception as error:  # whatever tarfile meets in damaged headers
        if _starts_compressed(path):
            raise DataError(compressed(path, name)) from error
        raise DataError(
            f"{name}: {path} cannot be read: {error or type(error).__name__}; copy or "
            "pack it again"
        ) from error


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The members of an archive; their data are skipped.

    Not by iterating over `TarFile`: that takes a damaged or missing header for the end
    of the archive, and keeps every member in memory.
    """
    with tarfile.open(fileobj=cast(BinaryIO, _Bounded(file)), mode="r:") as archive:
        offset = file.seek(0)
        while any(block := file.read(_BLOCK)):
            file.seek(offset)
            member = tarfile.TarInfo.fromtarfile(archive)
            if member.issparse():
                raise tarfile.ReadError(f"{member.name!r} is stored as a sparse file")
            if member.size < 0 or archive.offset <= offset:
                raise tarfile.ReadError(f"{member.name!r} has a negative size")
            yield member
            offset = file.seek(archive.offset)
    if len(block) < _BLOCK:
        raise tarfile.ReadError("it is cut off, its end marker is missing")
    if any(file.read(_PADDING)):
        raise tarfile.ReadError(f"there are data after its end at byte {offset}")


class _Bounded:
    """A file of which no read takes more than `_MAX_TEXT` bytes.

    tarfile reads the header of a long name at the size that the file claims for it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_TEXT:
            raise tarfile.ReadError(f"a header claims {size} bytes for a name")
        return self._file.read(size)


def _starts_compressed(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(8).startswith(_MAGIC)
    except OSError:
        return False


def _sample(
    file: BinaryIO, key: str, places: dict[str, _Place], path: Path, name: str
) -> Sample:
    missing = None if "image" in places else "image"
    if "cls" not in places and "json" not in places:
        missing = "label"
    if missing:
        what = IMAGE_SUFFIXES if missing == "image" else (".cls", ".json")
        raise DataError(
            f"{name}: the sample {key!r} of {path} has no {missing}, a file that ends "
            f"in {', '.join(what)}; pack it again"
        )
    role = "cls" if "cls" in places else "json"
    offset, size = places[role]
    if size > _MAX_TEXT:
        raise DataError(
            f"{name}: the .{role} of the sample {key!r} of {path} has {size:,} bytes; "
            f"allowed: {_MAX_TEXT:,}; pack it again"
        )
    text = os.pread(file.fileno(), size, offset)
    label = _label(text) if role == "cls" else _json_label(text)
    if label is None or not 0 <= label <= _MAX_LABEL:
        allowed = "" if role == "cls" else f" as {', '.join(_JSON_FIELDS)}"
        raise DataError(
            f"{name}: the label of the sample {key!r} of {path}, "
            f"{text[:80].decode(errors='replace')!r} in .{role}, is not allowed; "
            f"allowed: an integer of at least 0{allowed}"
        )
    return Sample(key, *places["image"], label)


def _label(text: bytes) -> int | None:
    match = re.fullmatch(rb"\s*(-?\d{1,18})\s*", text)
    return int(match[1]) if match else None


def _json_label(text: bytes) -> int | None:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return None
    values = [fields.get(f) for f in _JSON_FIELDS] if isinstance(fields, dict) else []
    whole = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
    return whole[0] if whole else None
