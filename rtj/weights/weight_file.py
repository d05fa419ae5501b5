"""What a weight file holds, whatever its format, and the checks all formats share."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import ml_dtypes
import numpy as np

from rtj.errors import CheckpointError, ConfigError

# Larger than any training checkpoint of the networks here: ResNet-200's float32
# weights are 0.3 GB, with momentum, an average and float64 2 GB.
MAX_BYTES = 4 * 2**30

DTYPES: dict[str, np.dtype[Any]] = {
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F16": np.dtype(np.float16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
    "I8": np.dtype(np.int8),
    "I16": np.dtype(np.int16),
    "I32": np.dtype(np.int32),
    "I64": np.dtype(np.int64),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}


@dataclass(frozen=True)
class WeightFile:
    """Named tensors as a file holds them.

    Attributes:
        tensors: by name, in the file's dtypes and layouts.
        source: the file's name, for messages.
        layout: `torch` (timm's names, OIHW kernels) or `flax` (our variables,
            flattened: `params/stem/conv1/kernel`, HWIO).
        metadata: what the file says about itself, such as timm's `mean`; values
            are text, numbers and lists.
    """

    tensors: Mapping[str, np.ndarray]
    source: str
    layout: Literal["torch", "flax"] = "torch"
    metadata: Mapping[str, Any] = field(default_factory=dict)


def unreadable(source: object, reason: object) -> CheckpointError:
    """The error for a file that cannot be read as what it is."""
    text = str(reason) or type(reason).__name__
    return CheckpointError(f"weights {str(source)!r} cannot be read: {text}")


def missing_extra(package: str) -> ConfigError:
    """The error for an optional package that is not installed."""
    return ConfigError(
        f"this needs the package {package}, which is not installed; "
        "install rtj with its extra: rtj[weights]"
    )


def some(names: Iterable[str], limit: int = 6) -> str:
    """`a, b, c and 4 more`."""
    names = list(names)
    rest = len(names) - limit
    text = ", ".join(names[:limit])
    return text + (f" and {rest} more" if rest > 0 else "")


def check_size(source: object, found: int, allowed: int) -> None:
    """Raise CheckpointError if a file wants more memory than allowed."""
    if found > allowed:
        raise unreadable(
            source,
            f"it unpacks to {found:,} bytes, at most {allowed:,} are allowed here",
        )
