"""The classifier of a weight file against the model's: class counts.

`head` says what happens with it:

| `head` | the file's classes | result |
|---|---|---|
| None | the model's | the file's head |
| None | 1001 for a model of 1000 | the file's head without class 0, which is TensorFlow's background; a line in the log |
| None | any other | CheckpointError |
| `keep` | the model's | the file's head |
| `keep` | any other, 1001 too | CheckpointError |
| `reset` | any, or no head at all | a fresh head of the model's size |
| `drop` | any, or no head at all | no head: `params` has no `fc` |

An auxiliary head (Inception-V3's) is treated like the main one.
"""  # noqa: E501

import logging
from collections.abc import Mapping
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict

from rtj.errors import CheckpointError, unknown

Head = Literal["reset", "keep", "drop"]
HEADS = ("reset", "keep", "drop")
_WITH_BACKGROUND = 1001

_log = logging.getLogger(__name__)


class Expected(NamedTuple):
    """One tensor of the model, as a file of some layout should hold it.

    Attributes:
        path: our variable, `("params", "fc", "kernel")`.
        shape: in the file's layout.
        classes: the axis that counts classes; None outside heads.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    classes: int | None


def check_head(head: str | None) -> None:
    """Raise ConfigError unless `head` is None or one of `HEADS`."""
    if head is not None and head not in HEADS:
        raise unknown("head", head, HEADS)


def is_head(path: tuple[str, ...]) -> bool:
    """Whether a variable belongs to a classifier."""
    return path[-2] == "fc"


def count_classes(
    tensors: Mapping[str, np.ndarray], heads: Mapping[str, Expected]
) -> int | None:
    """The classes of the file's main head; None if it has none."""
    for name, head in sorted(heads.items(), key=lambda item: len(item[1].path)):
        if name in tensors and tensors[name].ndim == len(head.shape):
            return tensors[name].shape[head.classes or 0]
    return None


def drop_background(
    tensors: Mapping[str, np.ndarray], heads: Mapping[str, Expected], source: str
) -> dict[str, np.ndarray]:
    """`tensors` with class 0 cut off their heads."""
    _log.warning(
        "%s has %d classes, the model %d: class 0, the background, is left out",
        source,
        _WITH_BACKGROUND,
        _WITH_BACKGROUND - 1,
    )
    cut = {
        name: np.delete(tensors[name], 0, head.classes or 0)
        for name, head in heads.items()
        if name in tensors
    }
    return {**tensors, **cut}


def has_background(found: int | None, wanted: int) -> bool:
    """Whether a head of `found` classes is one of `wanted` and a background."""
    return found == _WITH_BACKGROUND and wanted == _WITH_BACKGROUND - 1


def count_error(source: str, found: int | None, wanted: int) -> CheckpointError:
    """The error for a head of another size."""
    has = "no classifier" if found is None else f"{found} classes"
    return CheckpointError(
        f"weights {source!r} have {has}, the model has {wanted}; allowed: a model of "
        "the same count, head='reset' (a fresh classifier) or head='drop' (none)"
    )


def fresh_heads(model: nn.Module, size: int) -> dict[str, jax.Array]:
    """The heads that `model.init` gives for seed 0, by `params/...` path.

    XLA computes only what is returned.
    """

    def init(key: jax.Array) -> dict[str, jax.Array]:
        variables = model.init(key, jnp.zeros((1, size, size, 3)), train=False)
        flat = flatten_dict({"params": variables["params"]})
        return {"/".join(path): leaf for path, leaf in flat.items() if is_head(path)}

    return jax.jit(init)(jax.random.key(0))
