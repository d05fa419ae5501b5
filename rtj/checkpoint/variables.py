"""Weights alone out of a checkpoint, without the run's optimizer, data or devices."""

import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from rtj.checkpoint import damage
from rtj.checkpoint.files import check_files
from rtj.checkpoint.record import check_leaves, read_record
from rtj.errors import CheckpointError

_COLLECTIONS = ("params", "batch_stats")
_log = logging.getLogger(__name__)


def newest_variables(directory: Path) -> dict[str, Any]:
    """`restore_variables` of the newest step under `directory` whose weights are whole.

    A damaged one is logged and passed over; nothing is moved.

    Raises:
        CheckpointError: there is none, or the newest is of another format version.
    """
    variables, damaged = damage.newest_whole(
        directory, lambda step: _restore(directory / str(step))
    )
    for step, why in damaged.items():
        _log.warning("%s: %s", directory, damage.passed_over(step, why))
    return variables


def restore_variables(step: Path) -> dict[str, Any]:
    """`{"params": ..., "batch_stats": ...}` of one checkpoint, as NumPy arrays.

    Where the run averages its weights it is the average.

    Args:
        step: the folder of one step.

    Raises:
        CheckpointError: not there, not whole, or of another format version.
    """
    try:
        return _restore(step)
    except Exception as error:
        raise CheckpointError(f"cannot restore {str(step)!r}: {error}") from error


def _restore(step: Path) -> dict[str, Any]:
    record = read_record(step)
    check_files(step)
    with damage.reading():
        tree = _read((step / "state").absolute())
    check_leaves(record, tree)
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
