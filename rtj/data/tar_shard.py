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
from typing import BinaryIO, NamedTuple

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

_Place = tuple[int, int]  # offset and size, bytes


class Sample(NamedTuple):
    """Where an image lies in its shard, in bytes, and its label."""

    key: str
    offset: int
    size: int
    label: int


def read_shard(path: Path, name: str) -> list[Sample]:
    """The samples of a shard, in the order of their first files.

    Raises:
        DataError: the shard is compressed, damaged or cut off; a sample has no image
            or no label, or two; a label is no integer from 0 to 2^31 - 1.
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
    except (tarfile.TarError, OSError) as error:
        if _starts_compressed(path):
            raise DataError(compressed(path, name)) from error
        raise DataError(
            f"{name}: {path} cannot be read: {error}; copy or pack it again"
        ) from error


def _members(file: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """The members of an archive; their data are skipped.

    Not by iterating over `TarFile`: that takes a damaged or missing header for the end
    of the archive, and keeps every member in memory.
    """
    with tarfile.open(fileobj=file, mode="r:") as archive:
        offset = file.seek(0)
        while any(block := file.read(_BLOCK)):
            file.seek(offset)
            member = tarfile.TarInfo.fromtarfile(archive)
            if member.issparse():
                raise tarfile.ReadError(f"{member.name!r} is stored as a sparse file")
            yield member
            offset = file.seek(archive.offset)
    if len(block) < _BLOCK:
        raise tarfile.ReadError("it is cut off, its end marker is missing")
    if any(file.read(_PADDING)):
        raise tarfile.ReadError(f"there are data after its end at byte {offset}")


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
    except ValueError:
        return None
    values = [fields.get(f) for f in _JSON_FIELDS] if isinstance(fields, dict) else []
    whole = [v for v in values if isinstance(v, int) and not isinstance(v, bool)]
    return whole[0] if whole else None
