"""One-step-late reports: metrics of step k are read while step k + 1 runs."""

import math
from collections.abc import Callable, Mapping, Sequence

import jax

from rtj.checkpoint import Evaluation
from rtj.data.input_wait import InputWait
from rtj.errors import Diverged
from rtj.experiment import Experiment
from rtj.loss_guard import LossGuard
from rtj.metrics import MetricsWriter
from rtj.progress import Progress
from rtj.skipped import SkippedSteps
from rtj.step_options import Metrics

Callback = Callable[[int, dict[str, float]], None]


class Reporter:
    """Writes train metrics at log steps, evaluations, and every skipped step.

    The values written are those of the step alone, not a mean since the last log,
    so a resumed run writes what an uninterrupted one would have.

    Args:
        skipped: takes the steps that were not finite.
        waits: times the loop's waiting for input.
        evaluation: the newest one of a resumed run.
    """

    def __init__(
        self,
        experiment: Experiment,
        writer: MetricsWriter,
        progress: Progress,
        skipped: SkippedSteps,
        callbacks: Sequence[Callback],
        waits: InputWait,
        evaluation: Evaluation | None = None,
    ) -> None:
        self._train = experiment.config.train
        self._shown = experiment.task.shown
        self._total_steps = experiment.total_steps
        self._writer = writer
        self._progress = progress
        self._skipped = skipped
        self._guard = LossGuard(experiment.config.train.max_loss_ratio)
        self._callbacks = callbacks
        self._waits = waits
        self._timed = False
        self._pending: tuple[int, Metrics, jax.Array] | None = None
        self._skipped_in_a_row = 0
        self.evaluation = evaluation

    def step(self, step: int, metrics: Metrics, index: jax.Array) -> None:
        """Takes a dispatched step's metrics and reports the step before it.

        Args:
            index: the batch's example indices, int32 (B,), fetched only if needed.

        Raises:
            Diverged: more than `train.max_skipped_steps` steps in a row were not
                finite, or the loss went beyond `train.max_loss_ratio`.
            CheckpointError: a file cannot be written.
        """
        self.flush()
        self._pending = (step, metrics, index)

    def flush(self) -> None:
        """Reports the pending step; waits for it to end. Errors are those of `step`."""
        if self._pending is None:
            return
        step, metrics, index = self._pending
        self._pending = None
        values = {key: float(v) for key, v in jax.device_get(metrics).items()}
        self._report(step, values, index)
        for callback in self._callbacks:
            callback(step, values)

    def _report(self, step: int, values: dict[str, float], index: jax.Array) -> None:
        skipped = values["skipped"] > 0
        median = self._guard.exceeded(values["loss"])
        due = step % self._train.log_every == 0 or step == self._total_steps
        if due or skipped or median is not None:
            self._writer.write(step, "train", values)
        shown = {key: values[key] for key in self._shown}
        self._progress.update(step, shown if due else None)
        if due or not self._timed:
            self._report_speed(step)
        self._report_skip(step, values, index, skipped)
        if median is not None:
            facts = self._skipped.add(step, values, index, "loss ratio")
            raise Diverged(
                f"step {step}: the loss is {values['loss'] / median:.3g} times "
                f"{median:g}, the median of the last steps; allowed: "
                f"train.max_loss_ratio={self._train.max_loss_ratio:g}. At step {step}: "
                f"{facts}"
            )

    def _report_skip(
        self, step: int, values: Mapping[str, float], index: jax.Array, skipped: bool
    ) -> None:
        self._skipped_in_a_row = self._skipped_in_a_row + 1 if skipped else 0
        if not skipped:
            return
        facts = self._skipped.add(step, values, index, "not finite")
        if self._skipped_in_a_row > self._train.max_skipped_steps:
            raise Diverged(
                f"step {step}: {self._skipped_in_a_row} steps in a row with a loss or "
                "gradients that are not finite; allowed: train.max_skipped_steps="
                f"{self._train.max_skipped_steps}. At step {step}: {facts}"
            )
        scale = values.get("loss_scale", 1.0)
        if scale > 1 and math.isfinite(values["loss"]):  # fp16 looks for its scale
            lower = max(scale / 2, 1)
            facts = f"gradients overflow, loss scale {scale:g} becomes {lower:g}"
        self._progress.note(f"step {step} skipped: {facts}")

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
