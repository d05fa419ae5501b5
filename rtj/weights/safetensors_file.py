"""safetensors files, through the library `safetensors` (extra `weights`)."""

import importlib
import json
import struct
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtj.weights.weight_file import (
    DTYPES,
    WeightFile,
    check_size,
    missing_extra,
    some,
    unreadable,
)

_MAX_HEADER = 100_000_000  # bytes; the library's own limit


def _library(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing_extra("safetensors") from error


def read_safetensors(path: Path, max_bytes: int) -> WeightFile:
    """All tensors, and the metadata as text.

    Raises:
        CheckpointError: damaged, too large, a name twice, or an unknown dtype.
        ConfigError: the library is not installed.
    """
    library = _library("safetensors")
    check_size(path, path.stat().st_size, max_bytes)
    data = path.read_bytes()
    metadata = _metadata(path, data)
    try:
        entries = library.deserialize(data)
    except library.SafetensorError as error:
        raise unreadable(path, error) from error
    tensors = {}
    for name, entry in entries:
        if entry["dtype"] not in DTYPES:
            raise unreadable(
                path,
                f"tensor {name!r} has dtype {entry['dtype']}; allowed: "
                + ", ".join(DTYPES),
            )
        flat = np.frombuffer(entry["data"], DTYPES[entry["dtype"]])
        tensors[name] = flat.reshape(entry["shape"])
    return WeightFile(tensors, str(path), "torch", metadata)


def _metadata(path: Path, data: bytes) -> dict[str, str]:
    """The header's `__metadata__`.

    Reads the header a second time because the library keeps the last of two equal
    names without a word.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        doubled = [n for n, times in Counter(n for n, _ in pairs).items() if times > 1]
        if doubled:
            raise unreadable(path, f"its header holds a name twice: {some(doubled)}")
        return dict(pairs)

    (size,) = struct.unpack("<Q", data[:8].ljust(8, b"\xff"))
    if size > min(_MAX_HEADER, len(data) - 8):
        raise unreadable(path, f"cut off: {len(data)} bytes do not hold its header")
    try:
        header = json.loads(data[8 : 8 + size], object_pairs_hook=once)
        return dict(header.get("__metadata__", {}))
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise unreadable(path, f"its header is not the JSON it must be: {error}") from (
            error
        )


def write_safetensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write tensors in the order of their names, so that equal ones give one file."""
    contiguous = {n: np.asarray(tensors[n], order="C") for n in sorted(tensors)}
    # `save_file` would make a file that only its owner may read.
    path.write_bytes(_library("safetensors.numpy").save(contiguous, dict(metadata)))
