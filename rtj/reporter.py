"""One-step-late reports: metrics of step k are read while step k + 1 runs."""

import math
from collections.abc import Callable, Mapping, Sequence

import jax

from rtj.checkpoint import Evaluation
from rtj.data.input_wait import InputWait
from rtj.errors import Diverged
from rtj.experiment import Experiment
from rtj.metrics import MetricsWriter
from rtj.progress import Progress
from rtj.step_options import Metrics

Callback = Callable[[int, dict[str, float]], None]


class Reporter:
    """Writes train metrics at log steps, evaluations, and every skipped step.

    The values written are those of the step alone, not a mean since the last log,
    so a resumed run writes what an uninterrupted one would have.

    Args:
        waits: times the loop's waiting for input.
        evaluation: the newest one of a resumed run.
    """

    def __init__(
        self,
        experiment: Experiment,
        writer: MetricsWriter,
        progress: Progress,
        callbacks: Sequence[Callback],
        waits: InputWait,
        evaluation: Evaluation | None = None,
    ) -> None:
        self._train = experiment.config.train
        self._shown = experiment.task.shown
        self._total_steps = experiment.total_steps
        self._writer = writer
        self._progress = progress
        self._callbacks = callbacks
        self._waits = waits
        self._timed = False
        self._pending: tuple[int, Metrics] | None = None
        self._skipped_in_a_row = 0
        self.evaluation = evaluation

    def step(self, step: int, metrics: Metrics) -> None:
        """Takes a dispatched step's metrics and reports the step before it.

        Raises:
            Diverged: more than `train.max_skipped_steps` steps in a row were not
                finite.
        """
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        """Reports the pending step; waits for it to end."""
        if self._pending is None:
            return
        step, metrics = self._pending
        self._pending = None
        values = {key: float(v) for key, v in jax.device_get(metrics).items()}
        self._report(step, values)
        for callback in self._callbacks:
            callback(step, values)

    def _report(self, step: int, values: Mapping[str, float]) -> None:
        skipped = values["skipped"] > 0
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if skipped else 0
        due = step % self._train.log_every == 0 or step == self._total_steps
        if due or skipped:
            self._writer.write(step, "train", values)
        shown = {key: values[key] for key in self._shown}
        self._progress.update(step, shown if due else None)
        if due or not self._timed:
            self._report_speed(step)
        if skipped:
            scale = values.get("loss_scale")
            note = "" if scale is None else f" (loss scale {scale:g})"
            self._progress.note(f"step {step} skipped: gradients not finite{note}")
        if self._skipped_in_a_row > self._train.max_skipped_steps:
            raise Diverged(
                f"step {step}: {self._skipped_in_a_row} steps in a row with gradients "
                f"that are not finite (loss {values['loss']:g}, learning rate "
                f"{values['lr']:g}); allowed: train.max_skipped_steps="
                f"{self._train.max_skipped_steps}"
            )

    def _report_speed(self, step: int) -> None:
        """Means since the last log step; the first step, which compiles, and the wait
        for the first batches are left out."""
        self._timed = True
        wait, seconds = self._waits.take(), self._progress.step_s
        if seconds is not None:
            values = {
                "step_s": seconds,
                "input_wait_s": wait,
                "images_per_s": self._train.batch_size / seconds,
            }
            self._writer.write(step, "speed", values)

    def evaluated(self, step: int) -> bool:
        """Whether the newest evaluation is of `step`."""
        return self.evaluation is not None and self.evaluation["step"] == step

    def add_evaluation(self, step: int, result: Mapping[str, float]) -> None:
        """Writes an evaluation and remembers it for the next checkpoint."""
        self.evaluation = {"step": step, **result}
        self._writer.write(step, "eval", result)
        shown = ", ".join(
            f"{key} {value:.4f}" if math.isfinite(value) else f"{key} {value}"
            for key, value in result.items()
            if key != "examples"
        )
        self._progress.note(f"evaluation at step {step}: {shown}")
