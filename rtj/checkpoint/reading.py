"""Restoring the newest state that is what was saved."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from rtj.checkpoint.files import check_files
from rtj.checkpoint.leaves import as_tree, layouts
from rtj.checkpoint.record import (
    Damage,
    Evaluation,
    Record,
    check_leaves,
    read_record,
)
from rtj.checkpoint.step_folders import list_steps, set_aside
from rtj.errors import CheckpointError
from rtj.peers import ALONE, Peers
from rtj.state import TrainState

# Of a disk or a machine in trouble, which says nothing about the checkpoint.
_NO_DAMAGE = (
    "RESOURCE_EXHAUSTED",
    "PERMISSION_DENIED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "Permission denied",
    "Input/output error",
)


@dataclass(frozen=True)
class Restored:
    """A state that was saved.

    Attributes:
        state: shaped and sharded as was asked for.
        evaluation: what was saved with it.
        passed_over: for each newer checkpoint that is damaged, what is wrong with it
            and where it is now.
    """

    state: TrainState
    evaluation: Evaluation | None
    passed_over: list[str] = field(default_factory=list)


def restore_newest(
    directory: Path, like: TrainState, *, peers: Peers = ALONE, mend: bool = False
) -> Restored:
    """The newest checkpoint under `directory` whose every checksum holds.

    Checksums are of what has arrived on the devices. All `peers` agree on the step.

    Args:
        like: shapes, dtypes and shardings of the state.
        mend: set the damaged ones aside, so that their steps can be saved again.

    Raises:
        CheckpointError: there is none; none is whole (then nothing is moved); or the
            newest whole one is of another network or optimizer, which names the leaf.
    """
    directory = directory.absolute()
    steps = list_steps(directory)
    if not steps:
        raise CheckpointError(f"no checkpoint under {directory}")
    damaged: dict[int, str] = {}
    for step in reversed(steps):
        restored = _restore(directory, step, like, peers)
        if isinstance(restored, Restored):
            lines = _pass_over(directory, damaged, move=mend and peers.lead)
            return Restored(restored.state, restored.evaluation, lines)
        damaged[step] = restored
    found = "; ".join(f"step {step}: {why}" for step, why in damaged.items())
    raise CheckpointError(f"no checkpoint under {directory} is whole ({found})")


def _pass_over(directory: Path, damaged: dict[int, str], *, move: bool) -> list[str]:
    lines = []
    for step, why in damaged.items():
        line = f"checkpoint of step {step} is damaged and passed over: {why}"
        lines.append(f"{line}; now {set_aside(directory, step)}" if move else line)
    return lines


def _restore(
    directory: Path, step: int, like: TrainState, peers: Peers
) -> Restored | str:
    """One step's state, or what is damaged in it, the same in all processes."""
    folder, problem = directory / str(step), ""
    record: Record = {}
    tree: Any = {}
    for name in ("opening", "reading", "checking"):
        with _named_errors(directory, step):
            try:
                if name == "opening":
                    record = _open(folder, all_files=peers.lead)
                elif name == "reading":
                    tree = _read(folder, as_tree(like), record)
                else:
                    _check(record, tree, step)
            except Damage as damage:
                problem = str(damage)
        problem = peers.first_problem(f"{name} {step}", problem)
        if problem:
            return problem
    return Restored(like.replace(**tree), record["evaluation"])


@contextlib.contextmanager
def _named_errors(directory: Path, step: int) -> Any:
    try:
        yield
    except Exception as error:
        raise CheckpointError(
            f"cannot restore step {step} from {directory}: {error}"
        ) from error


def _open(folder: Path, *, all_files: bool) -> Record:
    record = read_record(folder)
    if all_files:
        check_files(folder)
    return record


def _read(folder: Path, wanted: Any, record: Record) -> Any:
    """The tree of a step's folder.

    Raises:
        Damage: Orbax cannot read it.
        ValueError: it is whole, but not what is `wanted`.
        Exception: the disk or the machine is in trouble.
    """
    target = jax.tree.map(ocp.tree.to_shape_dtype_struct, wanted)
    try:
        # Not through a Checkpointer: it ends a restore with a barrier, which a
        # process that finds a file damaged would leave the others at.
        handler = ocp.StandardCheckpointHandler()
        stored = record.get("leaves") or layouts(
            ocp.PyTreeCheckpointHandler().metadata(folder / "state").tree
        )
        _check_same_layout(stored, layouts(target))
        return handler.restore(folder / "state", args=ocp.args.StandardRestore(target))
    except (_OtherLayout, MemoryError, PermissionError):
        raise
    except Exception as error:
        if any(word in str(error) for word in _NO_DAMAGE):
            raise
        raise Damage(f"it cannot be read: {_short(error)}") from error


class _OtherLayout(ValueError):
    """The first leaf that is not as it should be."""


def _check_same_layout(have: dict[str, str], want: dict[str, str]) -> None:
    for name in sorted(have.keys() | want.keys()):
        if have.get(name) != want.get(name):
            raise _OtherLayout(
                f"{name} is {have.get(name, 'missing')}; this config needs it to be "
                f"{want.get(name, 'absent')}"
            )


def _check(record: Record, tree: Any, step: int) -> None:
    """Raise Damage if a restored tree is not as its record says."""
    if int(tree["step"]) != step:
        raise Damage(f"it holds step {int(tree['step'])}")
    check_leaves(record, tree)


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:200] + "..."
