"""Finds the weights in what people save around them."""

import logging
from collections.abc import Mapping
from typing import Any

from rtj.errors import CheckpointError
from rtj.weights.pickle_reader import Tensor
from rtj.weights.weight_file import some, unreadable

# The averaged weights first, as in timm.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict")
PREFIXES = ("module.", "_orig_mod.", "model.")

_log = logging.getLogger(__name__)


def find_state_dict(value: Any, source: object) -> dict[str, Tensor]:
    """The names and tensors in a saved value.

    The value is the state dict itself or holds it under one of `WRAPPERS`, or under
    two, one inside the other.

    Raises:
        CheckpointError: there is none, or it holds more than tensors.
    """
    found: list[str] = []
    while isinstance(value, Mapping) and len(found) < 2:
        inner = [k for k in WRAPPERS if isinstance(value.get(k), Mapping)]
        if not inner:
            break
        if len(inner) > 1:
            _log.warning("%s: of %s, %s is loaded", source, some(inner), inner[0])
        found.append(inner[0])
        value = value[inner[0]]
    if not isinstance(value, Mapping) or not value:
        raise unreadable(
            source, f"it holds a {type(value).__name__}, not a state dict with tensors"
        )
    tensors = {
        name: tensor
        for name, tensor in value.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }
    if len(tensors) < len(value):
        others = [str(name) for name in value if name not in tensors]
        raise _no_state_dict(source, found, others)
    return tensors


def _no_state_dict(
    source: object, found: list[str], others: list[str]
) -> CheckpointError:
    where = f"its {'.'.join(found)!r}" if found else "it"
    return unreadable(
        source,
        f"{where} is no state dict: {some(others)} are no tensors; looked for tensors "
        f"at the top and under {', '.join(WRAPPERS)}",
    )


def strip_prefix(names: list[str]) -> dict[str, str]:
    """Names without the prefixes that wrappers (DataParallel, compile) put on all."""
    prefix = ""
    while True:
        more = [p for p in PREFIXES if all(n.startswith(prefix + p) for n in names)]
        if not more or not names:
            return {name: name.removeprefix(prefix) for name in names}
        prefix += more[0]
