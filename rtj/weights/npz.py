"""`.npz` files: arrays by name, without pickles."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from rtj.weights.weight_file import WeightFile, unreadable
from rtj.weights.zip_archive import open_zip

_HEADERS = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


def read_npz(path: Path, max_bytes: int) -> WeightFile:
    """Arrays under torch's names, or our own variables flattened with `/`.

    For the latter write `np.savez(path, **flax.traverse_util.flatten_dict(
    variables, sep="/"))`.

    Raises:
        CheckpointError: damaged, too large, a name twice, or not plain numbers.
    """
    tensors = {}
    with open_zip(path, max_bytes=max_bytes) as archive:
        for entry in archive.names:
            name = entry.removesuffix(".npy")
            try:
                tensors[name] = _parse(archive.read(entry))
            except (ValueError, EOFError, TypeError, SyntaxError) as error:
                raise unreadable(path, f"array {name!r}: {error}") from error
    flax = any(name.startswith("params/") for name in tensors)
    return WeightFile(tensors, str(path), "flax" if flax else "torch")


def _parse(data: bytes) -> np.ndarray[Any, Any]:
    """One `.npy`; its header is checked against the bytes before memory is taken."""
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"npy version {version}; allowed: 1.0 and 2.0")
    shape, fortran, dtype = _HEADERS[version](file)
    if dtype.kind not in "fiub":
        raise ValueError(
            f"dtype {dtype} (NumPy saves bfloat16 as V2); allowed: floats and integers"
        )
    if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(
            f"{shape} of {dtype} does not fit the {len(data) - file.tell()} bytes of it"
        )
    array = np.frombuffer(data, dtype, offset=file.tell())
    return array.reshape(shape, order="F" if fortran else "C")
