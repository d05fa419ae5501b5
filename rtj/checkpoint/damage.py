"""What is damaged, what is only trouble, and the newest checkpoint that is neither."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from rtj.checkpoint.step_folders import list_steps
from rtj.errors import CheckpointError

T = TypeVar("T")

# Of a disk or a machine in trouble, which says nothing about the checkpoint.
_TROUBLE = (
    "RESOURCE_EXHAUSTED",
    "PERMISSION_DENIED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "Permission denied",
    "Input/output error",
)


class Damage(Exception):
    """What is on disk is not what was written; the text says where."""


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Turns what Orbax raises for damaged files, which is anything, into Damage."""
    try:
        yield
    except (MemoryError, PermissionError):
        raise
    except Exception as error:
        if any(word in str(error) for word in _TROUBLE):
            raise
        text = " ".join(str(error).split())
        short = text if len(text) <= 200 else text[:200] + "..."
        raise Damage(f"it cannot be read: {short}") from error


def newest_whole(
    directory: Path, restore: Callable[[int], T]
) -> tuple[T, dict[int, str]]:
    """What `restore` gives for the newest step for which it does not raise Damage.

    Returns:
        Also, by step, what is damaged in the newer ones.

    Raises:
        CheckpointError: there is no step, none is whole, or `restore` raised anything
            else for the newest that may be whole, which it names.
    """
    steps = list_steps(directory)
    damaged: dict[int, str] = {}
    for step in reversed(steps):
        try:
            return restore(step), damaged
        except Damage as damage:
            damaged[step] = str(damage)
        except Exception as error:
            raise CheckpointError(
                f"cannot restore step {step} from {directory}: {error}"
            ) from error
    if not steps:
        raise CheckpointError(f"no checkpoint under {directory}")
    found = "; ".join(f"step {step}: {why}" for step, why in damaged.items())
    raise CheckpointError(f"no checkpoint under {directory} is whole ({found})")


def passed_over(step: int, why: str) -> str:
    """The line for a damaged one."""
    return f"checkpoint of step {step} is damaged and passed over: {why}"
