"""A run's saves: one failure is forgiven, a second ends the run."""

from collections.abc import Callable

from rtj.checkpoint import Checkpointer, Evaluation
from rtj.errors import CheckpointError
from rtj.state import TrainState


class Saver:
    """Saves through `checkpoints`, and once more where that failed.

    Of several processes one alone may see a save fail, so none tries again: the error
    ends them all.

    Args:
        note: shows a line.
        retries: whether a failed save is tried once more.
    """

    def __init__(
        self, checkpoints: Checkpointer, note: Callable[[str], None], *, retries: bool
    ) -> None:
        self._checkpoints = checkpoints
        self._note = note
        self._retries = retries
        self._due = False
        # The newest step on disk when a save failed; -1: none has.
        self._failed_after: int | None = -1

    def due(self) -> bool:
        """Whether a save has failed and the newest state is to be saved instead.

        Called after every step, so that a failure in the background shows at once.

        Raises:
            CheckpointError: it was the second with no good one between.
        """
        self._try(self._checkpoints.check)
        return self._due

    def save(self, state: TrainState, evaluation: Evaluation | None) -> None:
        """Starts saving; a failure is noted, or raised as in `due`."""
        self._due = False
        self._try(lambda: self._checkpoints.save(state, evaluation))

    def finish(self, state: TrainState, evaluation: Evaluation | None) -> None:
        """Returns when `state` is on disk; raises as in `due`."""
        self.save(state, evaluation)
        self._try(self._checkpoints.wait)
        if self._due:
            self.finish(state, evaluation)

    def newest(self) -> int | None:
        """The newest step on disk, once the save that is under way has ended."""
        self._try(self._checkpoints.wait)
        return self._checkpoints.latest_step()

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except CheckpointError as error:
            newest = self._checkpoints.latest_step()
            there = "no step is" if newest is None else f"step {newest} is"
            if not self._retries or self._failed_after == newest:
                raise CheckpointError(
                    f"{error}; {there} on disk; run the same command again to go on "
                    "from there"
                ) from error
            self._failed_after = newest
            self._due = True
            self._note(f"{error}; {there} on disk; trying once more")
