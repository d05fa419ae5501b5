"""Writes `torch.save` files without torch: the zip form, tensors in a dictionary.

`torch.load(weights_only=True)` of torch 2.14.1 reads what this writes.
"""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
}


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(number(value) for value in values) + b"t"


def dictionary(items: list[tuple[bytes, bytes]]) -> bytes:
    """`items` are pickled keys and values; a key may stand twice."""
    return b"}(" + b"".join(key + value for key, value in items) + b"u"


def tensor(
    key: str,
    dtype: str,
    size: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int = 0,
) -> bytes:
    """The pickle of a tensor whose storage `key` has `size` elements."""
    storage = (
        b"(" + text("storage") + b"ctorch\n" + _STORAGES[dtype].encode() + b"\n"
    ) + (text(key) + text("cpu") + number(size) + b"tQ")
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + number(offset)
        + numbers(shape)
        + numbers(strides)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def array_pickle(key: str, array: np.ndarray) -> bytes:
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return tensor(key, array.dtype.name, array.size, array.shape, strides)


def state_dict_pickle(arrays: Mapping[str, np.ndarray]) -> bytes:
    return dictionary(
        [
            (text(name), array_pickle(str(i), np.ascontiguousarray(array)))
            for i, (name, array) in enumerate(arrays.items())
        ]
    )


def write_zip(
    path: Path,
    pickled: bytes,
    storages: Mapping[str, bytes],
    *,
    compression: int = zipfile.ZIP_STORED,
    extra: Mapping[str, bytes] | None = None,
    byteorder: str = "little",
) -> Path:
    """A torch file around a pickle's body (no header, no STOP)."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + pickled + b".")
        archive.writestr("archive/byteorder", byteorder)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
        for name, data in (extra or {}).items():
            archive.writestr(f"archive/{name}", data)
    return path


def storages_of(arrays: Mapping[str, np.ndarray]) -> dict[str, bytes]:
    return {
        str(i): np.ascontiguousarray(array).tobytes()
        for i, array in enumerate(arrays.values())
    }


def save(path: Path, arrays: Mapping[str, np.ndarray], **options: Any) -> Path:
    """What `torch.save({name: tensor, ...}, path)` writes."""
    return write_zip(path, state_dict_pickle(arrays), storages_of(arrays), **options)
