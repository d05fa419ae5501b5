"""Checkpoints: the one file that knows Orbax."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from rtj.errors import CheckpointError
from rtj.state import TrainState

FORMAT_VERSION = 1

Evaluation = dict[str, float]
_COLLECTIONS = ("params", "batch_stats")


class Checkpointer:
    """Asynchronous checkpoints of a `TrainState` under `directory`.

    Reading never creates the directory. Every failure is a CheckpointError; one
    in a background save surfaces at the next call.

    Args:
        directory: usually WORKDIR/checkpoints.
        keep: how many of the newest to keep.
        config_hash: stored beside the state.
    """

    def __init__(self, directory: Path, *, keep: int = 2, config_hash: str = ""):
        self._directory = directory.absolute()
        self._config_hash = config_hash
        policy = ocp.checkpoint_managers.LatestN(keep)
        self._manager = ocp.CheckpointManager(
            self._directory,
            item_handlers={
                "state": ocp.StandardCheckpointHandler(),
                "metadata": ocp.JsonCheckpointHandler(),
            },
            options=ocp.CheckpointManagerOptions(
                preservation_policy=policy,
                create=False,
                cleanup_tmp_directories=False,
            ),
        )

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest_step(self) -> int | None:
        """The newest step on disk, or None."""
        return self._manager.latest_step()

    def save(self, state: TrainState, evaluation: Evaluation | None = None) -> None:
        """Start saving `state` unless its step is on disk already.

        `evaluation` is the newest one; its `step` tells a later `restore` whether
        the one that was due at this step has been made.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        metadata = {
            "format_version": FORMAT_VERSION,
            "config_hash": self._config_hash,
            "evaluation": evaluation,
        }
        try:
            saved = self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(_as_tree(state)),
                    metadata=ocp.args.JsonSave(metadata),
                ),
            )
        except Exception as error:
            raise CheckpointError(
                f"cannot save step {step} under {self._directory}: {error}"
            ) from error
        if not saved:
            raise CheckpointError(
                f"step {step} was not saved under {self._directory}: a newer step "
                f"({self.latest_step()}) is there"
            )

    def wait(self) -> None:
        """Return when every started save is on disk."""
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise CheckpointError(
                f"a save under {self._directory} failed: {error}"
            ) from error

    def restore(
        self, like: TrainState, step: int | None = None
    ) -> tuple[TrainState, Evaluation | None]:
        """What `save` was given at `step` (None: the newest).

        The state is shaped and sharded as `like`.
        """
        step = self.latest_step() if step is None else step
        if step is None:
            raise CheckpointError(f"no checkpoint under {self._directory}")
        target = jax.tree.map(ocp.tree.to_shape_dtype_struct, _as_tree(like))
        try:
            stored = self._manager.item_metadata(step).state.tree
            _check_same_leaves(stored, target)
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(target),
                    metadata=ocp.args.JsonRestore(),
                ),
            )
        except Exception as error:
            raise CheckpointError(
                f"cannot restore step {step} from {self._directory}: {error}"
            ) from error
        version = restored.metadata["format_version"]
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"step {step} of {self._directory} has format {version}; "
                f"this rtj reads {FORMAT_VERSION}"
            )
        return like.replace(**restored.state), restored.metadata["evaluation"]


def _check_same_leaves(stored: Any, wanted: Any) -> None:
    """Raise ValueError that names the first leaf which is not as it should be."""
    have, want = _shapes_by_name(stored), _shapes_by_name(wanted)
    for name in sorted(have.keys() | want.keys()):
        if have.get(name) != want.get(name):
            raise ValueError(
                f"{name} is {have.get(name, 'missing')}; this config needs it to be "
                f"{want.get(name, 'absent')}"
            )


def _shapes_by_name(tree: Any) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    names = [
        jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves
    ]
    return {
        name: f"{leaf.dtype}{list(leaf.shape)}"
        for name, (_, leaf) in zip(names, leaves, strict=True)
    }


def _as_tree(state: TrainState) -> dict[str, object]:
    tree = {
        "step": state.step,
        "params": state.params,
        "batch_stats": state.batch_stats,
        "opt_state": state.opt_state,
        "loss_scale": state.loss_scale,
    }
    # Absent where there is none, as in checkpoints from before there was one.
    return tree if state.average is None else tree | {"average": state.average}


def restore_variables(step: Path) -> dict[str, Any]:
    """`{"params": ..., "batch_stats": ...}` of one checkpoint, as NumPy arrays.

    Where the run averages its weights it is the average.

    For weights alone, where neither the optimizer nor the data set nor the devices
    of the run are at hand, which a whole train state would need.

    Args:
        step: the folder of one step.

    Raises:
        CheckpointError: not there, not whole, or of another format version.
    """
    try:
        metadata = json.loads((step / "metadata" / "metadata").read_text())
        version = metadata["format_version"]
        if version != FORMAT_VERSION:
            raise ValueError(f"format {version}; this rtj reads {FORMAT_VERSION}")
        folder = (step / "state").absolute()
        handler = ocp.PyTreeCheckpointHandler()
        tree = handler.metadata(folder).tree
        averaged = "average" in tree
        chosen = tree["average"] if averaged else tree
        wanted = {key: chosen[key] for key in _COLLECTIONS}
        wanted = {"average": wanted} if averaged else wanted
        restored = handler.restore(
            folder,
            args=ocp.args.PyTreeRestore(
                item=wanted,
                restore_args=jax.tree.map(
                    lambda _: ocp.RestoreArgs(restore_type=np.ndarray), wanted
                ),
                partial_restore=True,
            ),
        )
        return restored["average"] if averaged else restored
    except Exception as error:
        raise CheckpointError(f"cannot restore {str(step)!r}: {error}") from error
