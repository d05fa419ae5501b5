"""Reads the pickles inside torch files without running them.

A pickle is a program for a small stack machine, and the standard library's unpickler
lets it call anything. This machine knows only the instructions that `torch.save`
writes and only the few names in `_GLOBALS`, which build dictionaries and describe
tensors; it refuses every other name. That is what `torch.load(weights_only=True)`
does, without torch.

`pickletools.genops` takes the bytes apart and checks every length. A value may be
nested so that a few bytes stand for 2^60 of it; none is hashed, compared or put into a
message before it is known to be text or a number.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rtj.weights.weight_file import DTYPES

_STORAGES = {
    "torch.BFloat16Storage": "BF16",
    "torch.HalfStorage": "F16",
    "torch.FloatStorage": "F32",
    "torch.DoubleStorage": "F64",
    "torch.CharStorage": "I8",
    "torch.ShortStorage": "I16",
    "torch.IntStorage": "I32",
    "torch.LongStorage": "I64",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}


class PickleError(Exception):
    """The pickle is damaged, or wants something that is not allowed."""


class Storage(NamedTuple):
    """A flat piece of memory that a torch file holds under `key`."""

    key: str
    dtype: np.dtype[Any]
    size: int  # elements


@dataclass(frozen=True)
class Tensor:
    """A view of a storage, counted in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Global(NamedTuple):
    name: str


_MARK = object()


def _rebuild_tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, *_: Any
) -> Tensor:
    numbers = [offset, *shape, *strides]
    if not isinstance(storage, Storage) or len(shape) != len(strides):
        raise PickleError("a tensor without storage, or of two ranks")
    if not all(isinstance(n, int) and 0 <= n < 2**62 for n in numbers):
        raise PickleError("a tensor whose offset, shape or strides are no numbers >= 0")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    _set_items(result, [part for key, value in pairs for part in (key, value)])
    return result


_GLOBALS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
}

# Instructions whose argument is the value that they push.
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
}
_FRESH: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "MARK": lambda: _MARK,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}


def read_pickle(file: Any) -> Any:
    """The value of the pickle that starts at `file`'s position.

    Dictionaries, lists, tuples, numbers and text; tensors as `Tensor`.

    Args:
        file: a BytesIO or mmap, whose `read` never takes memory for bytes that
            are not there.

    Raises:
        PickleError: damaged, or a name or instruction that is not allowed.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for instruction, argument, _ in pickletools.genops(file):
            if instruction.name == "STOP":
                (value,) = stack
                return value
            _step(instruction.name, argument, stack, memo)
    except PickleError:
        raise
    except Exception as error:  # whatever pickletools meets in damaged bytes
        raise PickleError(f"its pickle is damaged: {error}") from error
    raise PickleError("its pickle has no end")


def _step(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """Run one instruction."""
    if name in _LITERALS:
        stack.append(argument)
    elif name in _FRESH:
        stack.append(_FRESH[name]())
    elif name in ("BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        stack.append(tuple(_pop(stack, int(name[-1]))))
    elif name == "TUPLE":
        stack.append(tuple(_pop_to_mark(stack)))
    elif name in ("APPEND", "APPENDS"):
        items = _pop(stack, 1) if name == "APPEND" else _pop_to_mark(stack)
        _append(stack[-1], items)
    elif name in ("SETITEM", "SETITEMS"):
        items = _pop(stack, 2) if name == "SETITEM" else _pop_to_mark(stack)
        _set_items(stack[-1], items)
    elif name == "GLOBAL":
        stack.append(_find_global(*argument.split(" ", 1)))
    elif name == "STACK_GLOBAL":
        stack.append(_find_global(*_pop(stack, 2)))
    elif name == "BINPERSID":
        stack.append(_storage(*_pop(stack, 1)))
    elif name == "REDUCE":
        stack.append(_call(*_pop(stack, 2)))
    elif name == "BUILD":
        stack.append(_build(*_pop(stack, 2)))
    elif name not in ("PROTO", "FRAME"):
        raise PickleError(
            f"its pickle has the instruction {name}, which is not allowed"
        )


def _pop(stack: list[Any], count: int) -> list[Any]:
    items = stack[-count:]
    if len(items) < count or any(item is _MARK for item in items):
        raise PickleError("its pickle is damaged: too little on the stack")
    del stack[-count:]
    return items


def _pop_to_mark(stack: list[Any]) -> list[Any]:
    for at in range(len(stack) - 1, -1, -1):
        if stack[at] is _MARK:
            items = stack[at + 1 :]
            del stack[at:]
            return items
    raise PickleError("its pickle is damaged: no mark on the stack")


def _append(target: Any, items: list[Any]) -> None:
    if not isinstance(target, list):
        raise PickleError(f"its pickle appends to a {type(target).__name__}")
    target.extend(items)


def _set_items(target: Any, items: list[Any]) -> None:
    if not isinstance(target, dict):
        raise PickleError(f"its pickle sets an item of a {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Tuples as keys could be nested so deeply that hashing them overflows.
        if not isinstance(key, str | int | float):
            raise PickleError(f"a dictionary has a {type(key).__name__} as a key")
        if key in target:
            raise PickleError(f"it holds the name {key!r} twice")
        target[key] = value


def _find_global(module: Any, name: Any) -> _Global:
    if not isinstance(module, str) or not isinstance(name, str):
        raise PickleError("it wants to call what has no name")
    full = f"{module}.{name}"
    if full not in _GLOBALS and full not in _STORAGES:
        raise PickleError(
            f"it wants to call {full}, and running code from a weight file is refused; "
            "allowed are tensors and plain containers (save the state dict alone)"
        )
    return _Global(full)


def _call(function: Any, arguments: Any) -> Any:
    if not isinstance(function, _Global) or function.name not in _GLOBALS:
        raise PickleError("its pickle calls something that is no function")
    return _GLOBALS[function.name](*arguments)


def _build(target: Any, state: Any) -> Any:
    # torch sets `_metadata` on a state dict this way: versions of its layers.
    if not isinstance(target, dict) or not isinstance(state, dict):
        raise PickleError("its pickle sets attributes of an object")
    return target


def _storage(saved: Any) -> Storage:
    """`("storage", type, key, device, elements[, view])`; the device is ignored."""
    tag, kind, key, _, size, *view = saved
    if tag != "storage" or kind.name not in _STORAGES:
        raise PickleError("its pickle refers to something that is no storage")
    if not isinstance(key, str) or not isinstance(size, int) or size < 0:
        raise PickleError("a storage whose key is no text or whose size is no number")
    if any(view):
        raise PickleError(
            "it holds views of storages; save it again with a newer torch"
        )
    return Storage(key, DTYPES[_STORAGES[kind.name]], size)
