"""Weights alone out of a checkpoint, without the run's optimizer, data or devices."""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from rtj.checkpoint.files import check_files
from rtj.checkpoint.record import check_leaves, read_record
from rtj.checkpoint.step_folders import list_steps
from rtj.errors import CheckpointError

_COLLECTIONS = ("params", "batch_stats")
_log = logging.getLogger(__name__)


def newest_variables(directory: Path) -> tuple[int, dict[str, Any]]:
    """The newest step under `directory` whose weights are whole, and these.

    A damaged one is logged and passed over; nothing is moved.

    Raises:
        CheckpointError: there is none.
    """
    problems = []
    for step in reversed(list_steps(directory)):
        try:
            return step, restore_variables(directory / str(step))
        except CheckpointError as error:
            _log.warning("%s; passed over", error)
            problems.append(str(error))
    found = f" is whole ({'; '.join(problems)})" if problems else ""
    raise CheckpointError(f"no checkpoint under {directory}{found}")


def restore_variables(step: Path) -> dict[str, Any]:
    """`{"params": ..., "batch_stats": ...}` of one checkpoint, as NumPy arrays.

    Where the run averages its weights it is the average.

    Args:
        step: the folder of one step.

    Raises:
        CheckpointError: not there, not whole, or of another format version.
    """
    try:
        record = read_record(step)
        check_files(step)
        tree = _read((step / "state").absolute())
        check_leaves(record, tree)
    except Exception as error:
        raise CheckpointError(f"cannot restore {str(step)!r}: {error}") from error
    return tree.get("average", tree)


def _read(state: Path) -> dict[str, Any]:
    """The collections, at their places in the tree that was saved."""
    handler = ocp.PyTreeCheckpointHandler()
    tree = handler.metadata(state).tree
    averaged = "average" in tree
    chosen = tree["average"] if averaged else tree
    wanted: dict[str, Any] = {key: chosen[key] for key in _COLLECTIONS}
    wanted = {"average": wanted} if averaged else wanted
    return handler.restore(
        state,
        args=ocp.args.PyTreeRestore(
            item=wanted,
            restore_args=jax.tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted
            ),
            partial_restore=True,
        ),
    )
