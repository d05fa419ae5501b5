"""Where each sample of a split's shards lies: found once, then kept in a file.

The file is `rtj_index_SPLIT.npz` beside the shards or, where that folder cannot be
written, in the user's cache folder. It holds the names, sizes and times of the shards
it was made from, and is made anew when they differ.
"""

import hashlib
import json
import logging
import os
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtj.data.packed_names import PackedNames
from rtj.data.tar_shard import read_shard
from rtj.errors import DataError

_VERSION = 1
_COLUMNS = {"shard": "int32", "offset": "int64", "size": "int64", "label": "int32"}
_REPORT_SECONDS = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TarIndex:
    """The n samples of a split, in the order of the shards' names, then of a shard.

    Attributes:
        shards: the files.
        shard: int32 (n,), the sample's number in `shards`.
        offset, size: int64 (n,), of its image in the shard, bytes.
        label: int32 (n,).
        keys: n names, each once in its shard.
    """

    shards: Sequence[Path]
    shard: np.ndarray
    offset: np.ndarray
    size: np.ndarray
    label: np.ndarray
    keys: PackedNames


def open_index(shards: Sequence[Path], split: str, name: str) -> TarIndex:
    """The index of sorted shards of one folder, read or made.

    Several processes may make it at once: each writes a file of its own and renames
    it, and the files are equal.

    Raises:
        DataError: see `tar_shard.read_shard`; or there are no samples.
    """
    fingerprint = _fingerprint(shards, name)
    places = _places(shards[0].parent, split)
    for place in places:
        index = _load(place, shards, fingerprint)
        if index is not None:
            return index
    index = _build(shards, f"{name} {split}")
    if not len(index.label):
        raise DataError(
            f"{name}: the shards of {split} hold no samples; pack them again"
        )
    _store(index, fingerprint, places)
    return index


def _fingerprint(shards: Sequence[Path], name: str) -> np.ndarray:
    """uint8: JSON of what must be unchanged for an index to hold."""
    try:
        stats = [(path.name, path.stat()) for path in shards]
    except OSError as error:
        raise DataError(
            f"{name}: {error.filename} cannot be read: {error.strerror}; restore it"
        ) from error
    files = [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]
    return np.frombuffer(json.dumps([_VERSION, files]).encode(), np.uint8)


def _places(folder: Path, split: str) -> list[Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    return [
        folder / f"rtj_index_{split}.npz",
        cache / "rtj" / f"tar_index_{digest}_{split}.npz",
    ]


def _build(shards: Sequence[Path], what: str) -> TarIndex:
    keys = PackedNames()
    columns: list[np.ndarray] = []
    reported = time.monotonic()
    for number, path in enumerate(shards):
        samples = read_shard(path, what)
        for sample in samples:
            keys.append(sample.key)
        rows = [(number, s.offset, s.size, s.label) for s in samples]
        columns.append(np.array(rows, np.int64).reshape(-1, 4).T)
        if time.monotonic() - reported > _REPORT_SECONDS:
            reported = time.monotonic()
            # A warning, since nothing shows lower levels unless it is told to, and
            # a first start on ImageNet would stand still for minutes.
            _log.warning(
                "%s: indexing, which is done once: %d of %d shards, %d samples",
                what,
                number + 1,
                len(shards),
                len(keys),
            )
    shard, offset, size, label = np.concatenate(columns, axis=1)
    return TarIndex(
        shards, shard.astype(np.int32), offset, size, label.astype(np.int32), keys
    )


def _load(
    place: Path, shards: Sequence[Path], fingerprint: np.ndarray
) -> TarIndex | None:
    """The index in a file, or None if it is not there, damaged or of other shards."""
    try:
        with np.load(place, allow_pickle=False) as arrays:
            if not np.array_equal(arrays["fingerprint"], fingerprint):
                return None
            columns = {key: arrays[key] for key in _COLUMNS}
            keys, ends = arrays["keys"], arrays["key_ends"]
        _check(columns, keys, ends, shards)
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever numpy and zipfile meet in damaged files
        _log.warning("%s cannot be read and is made anew: %s", place, error)
        return None
    return TarIndex(shards=shards, keys=PackedNames.from_arrays(keys, ends), **columns)


def _check(
    columns: dict[str, np.ndarray],
    keys: np.ndarray,
    ends: np.ndarray,
    shards: Sequence[Path],
) -> None:
    """ValueError for an index that nobody here wrote, though it looks like one."""
    kinds = _COLUMNS | {"keys": "uint8", "key_ends": "int64"}
    for name, array in (columns | {"keys": keys, "key_ends": ends}).items():
        if array.dtype != kinds[name] or array.ndim != 1:
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
    if {len(column) for column in columns.values()} != {len(ends) - 1}:
        raise ValueError("its columns differ in length")
    shard, offset, size = (columns[key] for key in ("shard", "offset", "size"))
    lengths = np.array([path.stat().st_size for path in shards], np.int64)
    if (
        ((shard < 0) | (shard >= len(shards))).any()
        or (np.diff(ends, prepend=0, append=len(keys)) < 0).any()
        or (columns["label"] < 0).any()
        or ((offset < 0) | (size < 0) | (offset > lengths[shard] - size)).any()
    ):
        raise ValueError("it points outside of its shards")


def _store(index: TarIndex, fingerprint: np.ndarray, places: Iterable[Path]) -> None:
    """Writes the index to the first place that takes it."""
    packed, ends = index.keys.arrays()
    arrays = {
        "fingerprint": fingerprint,
        "shard": index.shard,
        "offset": index.offset,
        "size": index.size,
        "label": index.label,
        "keys": packed,
        "key_ends": ends,
    }
    errors = []
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            _write(place, arrays)
            return
        except OSError as error:
            errors.append(str(error))
    _log.warning("the index cannot be kept: %s", "; ".join(errors))


def _write(place: Path, arrays: dict[str, Any]) -> None:
    """The file whole or not at all, with any number of others writing it."""
    # Not by the process id: on a shared file system two hosts may have the same.
    partial = place.with_name(f".{place.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("xb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, place)
    finally:
        partial.unlink(missing_ok=True)
