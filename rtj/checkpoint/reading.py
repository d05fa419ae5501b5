"""Restoring the newest state that is what was saved."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import jax
import orbax.checkpoint as ocp

from rtj.checkpoint import damage
from rtj.checkpoint.damage import Damage, newest_whole
from rtj.checkpoint.files import check_files
from rtj.checkpoint.leaves import as_tree, layouts
from rtj.checkpoint.record import Evaluation, Record, check_leaves, read_record
from rtj.checkpoint.step_folders import set_aside
from rtj.peers import ALONE, Peers
from rtj.state import TrainState

T = TypeVar("T")


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
        like: shapes, dtypes and shardings of the state, of arrays or without them.
        mend: set the damaged ones aside, so that their steps can be saved again.

    Raises:
        CheckpointError: there is none; none is whole (then nothing is moved); or the
            newest whole one is of another network or optimizer, which names the leaf.
    """
    directory = directory.absolute()
    (state, evaluation), damaged = newest_whole(
        directory, lambda step: _restore(directory / str(step), like, peers)
    )
    lines = []
    for step, why in damaged.items():
        line = damage.passed_over(step, why)
        if mend and peers.lead:
            line += f"; now {set_aside(directory, step)}"
        lines.append(line)
    return Restored(state, evaluation, lines)


def _restore(
    folder: Path, like: TrainState, peers: Peers
) -> tuple[TrainState, Evaluation | None]:
    """A step's state; Damage in all processes if one of them finds any."""

    def agreed(doing: str, action: Callable[[], T]) -> T:
        result, problem = None, ""
        try:
            result = action()
        except Damage as error:
            problem = str(error)
        problem = peers.first_problem(f"{doing} {folder.name}", problem)
        if problem or result is None:
            raise Damage(problem)
        return result

    record = agreed("opening", lambda: _open(folder, all_files=peers.lead))
    tree = agreed("reading", lambda: _read(folder, as_tree(like), record))
    tree = agreed("checking", lambda: _checked(record, tree, int(folder.name)))
    return like.replace(**tree), record["evaluation"]


def _open(folder: Path, *, all_files: bool) -> Record:
    record = read_record(folder)
    if all_files:
        check_files(folder)
    return record


def _read(folder: Path, wanted: Any, record: Record) -> Any:
    """The tree of a step's folder; ValueError if it is whole, but not what is wanted.

    Not through an Orbax Checkpointer: it ends a restore with a barrier, which a process
    that finds a file damaged would leave the others at.
    """
    target = jax.tree.map(ocp.tree.to_shape_dtype_struct, wanted)
    state = folder / "state"
    with damage.reading():
        stored = record.get("leaves") or layouts(
            ocp.PyTreeCheckpointHandler().metadata(state).tree
        )
    _check_same_layout(stored, layouts(target))
    with damage.reading():
        args = ocp.args.StandardRestore(target)
        return ocp.StandardCheckpointHandler().restore(state, args=args)


def _check_same_layout(have: dict[str, str], want: dict[str, str]) -> None:
    """Raise ValueError for the first leaf that is not as it should be."""
    for name in sorted(have.keys() | want.keys()):
        if have.get(name) != want.get(name):
            raise ValueError(
                f"{name} is {have.get(name, 'missing')}; this config needs it to be "
                f"{want.get(name, 'absent')}"
            )


def _checked(record: Record, tree: Any, step: int) -> Any:
    """A restored tree, if it is as its record says."""
    if int(tree["step"]) != step:
        raise Damage(f"it holds step {int(tree['step'])}")
    check_leaves(record, tree)
    return tree
