"""Saving in the background, with errors that show and a look at the disk first."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from rtj.checkpoint import step_folders
from rtj.checkpoint.files import write_listing
from rtj.checkpoint.leaves import as_tree
from rtj.checkpoint.record import Evaluation, make_record
from rtj.checkpoint.retention import Retention
from rtj.errors import CheckpointError
from rtj.state import TrainState

# Of what a save needs beside the arrays: Orbax's own files and ours.
_BESIDE = 4 * 2**20


class _RaisedAnyway(logging.Filter):
    """Leaves out the traceback that Orbax logs of an error which it also raises."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and "orbax" in record.pathname)


class Checkpointer:
    """Saves of a `TrainState` under `directory`, one at a time, in the background.

    Used as a context. A save is whole or not there. Every failure is a CheckpointError;
    one in the background is raised by the next call of `check`, `wait` or `save`.

    Args:
        directory: usually WORKDIR/checkpoints; made by the first save.
        retention: which old ones stay once a newer one is on disk.
        config_hash: stored beside the state.
        scores: gives those of evaluated steps, for `retention`.
        lead: whether this process, of several that all call this, is the one that
            removes files.
    """

    def __init__(
        self,
        directory: Path,
        *,
        retention: Retention | None = None,
        config_hash: str = "",
        scores: Callable[[], Mapping[int, float]] = dict,
        lead: bool = True,
    ):
        self._directory = directory.absolute()
        self._config_hash = config_hash
        self._retention = retention or Retention()
        self._scores = scores
        self._lead = lead
        self._saving: int | None = None
        self._deleter = ThreadPoolExecutor(1, "rtj-delete")
        self._quiet = _RaisedAnyway()
        self._orbax = ocp.AsyncCheckpointer(
            ocp.CompositeCheckpointHandler(
                state=ocp.StandardCheckpointHandler(),
                metadata=ocp.JsonCheckpointHandler(),
            ),
            async_options=ocp.AsyncOptions(post_finalization_callback=self._list_files),
        )

    def __enter__(self) -> "Checkpointer":
        logging.getLogger("absl").addFilter(self._quiet)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.wait()
        except CheckpointError:
            if kind is None:
                raise
        finally:
            self._orbax.close()
            self._deleter.shutdown()
            logging.getLogger("absl").removeFilter(self._quiet)

    def latest_step(self) -> int | None:
        """The newest step on disk, or None."""
        return step_folders.newest_step(self._directory)

    def save(self, state: TrainState, evaluation: Evaluation | None = None) -> None:
        """Start saving `state` unless its step is on disk, or on its way, already.

        Training may go on, and change the state in place, once this returns.
        `evaluation` is the newest one; its `step` tells a later restore whether the
        one that was due at this step has been made.
        """
        step = int(state.step)
        if step == self._saving:
            return
        self.wait()
        if step in step_folders.list_steps(self._directory):
            return
        tree = as_tree(state)
        with self._failures(step):
            if self._lead:
                self._directory.mkdir(parents=True, exist_ok=True)
                _check_space(self._directory, tree)
            record = make_record(tree, self._config_hash, evaluation)
            self._saving = step
            self._orbax.save(
                self._directory / str(step),
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(tree),
                    metadata=ocp.args.JsonSave(record),
                ),
            )

    def check(self) -> None:
        """Raise the failure of the background save, if it has failed; never waits."""
        if self._saving is not None:
            with self._failures(self._saving):
                self._orbax.check_for_errors()

    def wait(self) -> None:
        """Return when the save that was started is on disk."""
        if self._saving is None:
            return
        with self._failures(self._saving):
            self._orbax.wait_until_finished()
        self._saving = None
        if self._lead:
            self._forget_superfluous()

    def _list_files(self) -> None:
        """In Orbax's thread, when all is written and the folder not yet renamed."""
        if self._lead and self._saving is not None:
            (folder,) = (
                path
                for path in step_folders.unfinished_saves(self._directory)
                if path.name.startswith(f"{self._saving}.")
            )
            write_listing(folder)

    @contextmanager
    def _failures(self, step: int) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._saving = None
            if self._lead:  # half a checkpoint may be what fills the disk
                step_folders.remove_leftovers(self._directory)
            raise CheckpointError(
                f"cannot save step {step} under {self._directory}: {error}"
            ) from error

    def _forget_superfluous(self) -> None:
        steps = step_folders.list_steps(self._directory)
        scores = self._scores() if self._retention.best else {}
        for step in self._retention.superfluous(steps, scores):
            doomed = step_folders.doom(self._directory, step)
            self._deleter.submit(step_folders.remove, doomed)


def _check_space(directory: Path, tree: Any) -> None:
    """Raise OSError if the disk has no room for `tree` as it is; it may compress."""
    needed = _BESIDE + sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise OSError(
            f"it needs {needed / 1e6:,.0f} MB and {free / 1e6:,.0f} MB of disk are free"
        )
