"""`.pth`, `.pt` and `.bin` files of `torch.save`, without torch and without pickle.

The zip form (since torch 1.6) holds NAME/data.pkl and one stored entry
NAME/data/KEY a storage. The form before it is a row of pickles followed by the
storages; torchvision's older files have it.
"""

import io
import math
import mmap
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from rtj.weights.pickle_reader import PickleError, Storage, Tensor, read_pickle
from rtj.weights.state_dict import find_state_dict
from rtj.weights.weight_file import WeightFile, check_size, unreadable
from rtj.weights.zip_archive import ZipArchive, open_zip

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001

ReadStorage = Callable[[Storage], np.ndarray]


def read_torch_zip(path: Path, max_bytes: int) -> WeightFile:
    """The state dict in a file of `torch.save`.

    Raises:
        CheckpointError: damaged, too large, TorchScript, code inside, no state dict.
    """
    with open_zip(path, max_bytes=max_bytes, compressed=False) as archive:
        root = _root(path, archive)
        if f"{root}constants.pkl" in archive.names:
            raise unreadable(
                path, "it is a TorchScript program, not weights; save its state_dict()"
            )
        order = b"little"
        if f"{root}byteorder" in archive.names:
            order = archive.read(f"{root}byteorder")

        def read(storage: Storage) -> np.ndarray:
            name = f"{root}data/{storage.key}"
            if name not in archive.names:
                raise PickleError(f"the storage {name!r} is missing")
            dtype = storage.dtype.newbyteorder(">" if order == b"big" else "<")
            return _as_array(archive.read(name), dtype, storage)

        with _one_error(path):
            value = read_pickle(io.BytesIO(archive.read(f"{root}data.pkl")))
            return _weight_file(path, value, read, max_bytes)


def _root(path: Path, archive: ZipArchive) -> str:
    """`NAME/` of the one entry NAME/data.pkl."""
    found = [name for name in archive.names if name.split("/")[1:] == ["data.pkl"]]
    if len(found) != 1:
        raise unreadable(path, f"{len(found)} entries are named NAME/data.pkl, not one")
    return found[0].removesuffix("data.pkl")


def read_torch_legacy(path: Path, max_bytes: int) -> WeightFile:
    """The state dict in a file that torch before 1.6 saved.

    Raises:
        CheckpointError: damaged, too large, code inside, no state dict.
    """
    check_size(path, path.stat().st_size, max_bytes)
    with _one_error(path), path.open("rb") as opened, _mapped(opened) as file:
        if read_pickle(file) != _LEGACY_MAGIC or read_pickle(file) != _LEGACY_PROTOCOL:
            raise PickleError("it is a pickle, but not one of torch.save")
        if read_pickle(file).get("little_endian") is not True:
            raise PickleError("it was saved on a big-endian machine")
        value = read_pickle(file)
        keys = read_pickle(file)
        storages = {storage.key: storage for storage in _storages(value)}
        data = {}
        for key in keys:
            if not isinstance(key, str) or key not in storages:
                raise PickleError("it lists a storage that no tensor has")
            storage = storages[key]
            (count,) = struct.unpack("<q", _read(file, 8))
            if count != storage.size:
                raise PickleError(f"storage {key!r} has {count} elements")
            raw = _read(file, count * storage.dtype.itemsize)
            data[storage] = _as_array(raw, storage.dtype, storage)
        return _weight_file(path, value, data.__getitem__, max_bytes)


def _mapped(file: IO[bytes]) -> mmap.mmap:
    # Reading a map takes no more memory than there are bytes, however many a
    # damaged pickle asks for; a file would allocate them first.
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


@contextmanager
def _one_error(path: Path) -> Iterator[None]:
    try:
        yield
    except PickleError as error:
        raise unreadable(path, error) from error
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        raise unreadable(path, f"it is damaged ({error!r})") from error


def _read(file: mmap.mmap, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise PickleError("it is cut off")
    return data


def _storages(value: Any) -> Iterator[Storage]:
    """Every storage in a value, each container visited once."""
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            yield item.storage
        elif isinstance(item, Mapping):
            waiting.extend(item.values())
        elif isinstance(item, list | tuple) and not isinstance(item, Storage):
            waiting.extend(item)


def _as_array(data: bytes, dtype: np.dtype[Any], storage: Storage) -> np.ndarray:
    if len(data) != storage.size * dtype.itemsize:
        raise PickleError(
            f"storage {storage.key!r} should hold {storage.size} elements of "
            f"{storage.dtype} and has {len(data)} bytes"
        )
    return np.frombuffer(data, dtype)


def _weight_file(
    path: Path, value: Any, read: ReadStorage, max_bytes: int
) -> WeightFile:
    chosen = find_state_dict(value, path)
    total = sum(
        math.prod(tensor.shape) * tensor.storage.dtype.itemsize
        for tensor in chosen.values()
    )
    check_size(path, total, max_bytes)
    arrays = {
        storage: read(storage)
        for storage in {tensor.storage for tensor in chosen.values()}
    }
    tensors = {
        name: _view(name, tensor, arrays[tensor.storage])
        for name, tensor in chosen.items()
    }
    return WeightFile(tensors, str(path))


def _view(name: str, tensor: Tensor, flat: np.ndarray) -> np.ndarray:
    """The tensor inside its storage; bounds checked, nothing copied."""
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, tensor.storage.dtype)
    last = tensor.offset + sum(
        (size - 1) * stride
        for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    )
    if last >= flat.size:
        raise PickleError(f"tensor {name!r} reaches beyond its storage")
    strides = [
        0 if size == 1 else stride * flat.itemsize
        for size, stride in zip(tensor.shape, tensor.strides, strict=True)
    ]
    return np.lib.stride_tricks.as_strided(
        flat[tensor.offset :], tensor.shape, strides, writeable=False
    )
