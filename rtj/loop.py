"""The training loop, a page of named steps.

train = check -> resume or start -> (step -> report -> save -> evaluate)* -> end
"""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from rtj import sharding
from rtj.checkpoint import Checkpointer
from rtj.config import config_hash
from rtj.data.input_wait import InputWait
from rtj.data.pipeline import train_batches
from rtj.errors import Stopped
from rtj.evaluation import run_evaluation
from rtj.experiment import Experiment, build
from rtj.metrics import MetricsWriter
from rtj.progress import Progress
from rtj.reporter import Callback, Reporter
from rtj.state import TrainState
from rtj.stop import StopRequest
from rtj.trick_table import format_trick_table
from rtj.workdir import check_workdir, open_workdir, read_result, write_json


@dataclass(frozen=True)
class Run:
    """The parts of one start of a run, open while it trains."""

    experiment: Experiment
    workdir: Path
    checkpoints: Checkpointer
    progress: Progress
    reporter: Reporter
    waits: InputWait
    stop: StopRequest


def train(
    config: ConfigDict, workdir: str | Path, *, callbacks: Sequence[Callback] = ()
) -> dict[str, Any]:
    """Train to the end, from the newest checkpoint of `workdir` if there is one.

    A finished workdir is only reported. A signal (SIGTERM, SIGINT) saves and
    raises `Stopped`; calling again goes on from there, bit-equal on the same
    devices.

    Args:
        config: from `rtj.get_config`.
        workdir: a new folder, or one that this config made.
        callbacks: each is called as f(step, metrics) once a step, with the train
            metrics of that step as floats, while the next step runs.

    Returns:
        `step, epoch, top1, top5` (fractions of 1), `loss, examples` (of the
        evaluation), `images_per_s, workdir`.

    Raises:
        ConfigError, DataError, CheckpointError: nothing was lost; see the message.
        Stopped: state saved. Diverged: non-finite beyond the allowed skips.
    """
    workdir = Path(workdir)
    check_workdir(workdir, config)
    finished = read_result(workdir)
    if finished is not None:
        print(f"{workdir} is finished; nothing to train")
        return finished
    experiment = build(config)
    open_workdir(
        workdir,
        config,
        total_steps=experiment.total_steps,
        steps_per_epoch=experiment.steps_per_epoch,
    )
    print(describe(experiment, workdir), flush=True)
    with ExitStack() as stack:
        run, state = _start(experiment, workdir, callbacks, stack)
        state = _train_to_end(run, state)
        return _finish(run, state)


def describe(experiment: Experiment, workdir: Path) -> str:
    """What is about to run, in a few lines."""
    config, data = experiment.config, experiment.train_source
    device = experiment.mesh.devices.flat[0]
    return "\n".join(
        [
            f"run {config.name} on data {data.name}: {len(data):,} train and "
            f"{len(experiment.eval_source):,} held-out images",
            f"{experiment.total_steps:,} steps of {config.train.batch_size} on "
            f"{experiment.mesh.size} x {device.device_kind}, workdir {workdir}",
            format_trick_table(config),
        ]
    )


def _start(
    experiment: Experiment,
    workdir: Path,
    callbacks: Sequence[Callback],
    stack: ExitStack,
) -> tuple[Run, TrainState]:
    config = experiment.config
    lead = jax.process_index() == 0
    stop = stack.enter_context(StopRequest())
    checkpoints = stack.enter_context(
        Checkpointer(
            workdir / "checkpoints",
            keep=config.checkpoint.keep,
            config_hash=config_hash(config),
        )
    )
    state, evaluation = experiment.init_state(), None
    if checkpoints.latest_step() is not None:
        state, evaluation = checkpoints.restore(state)
    step = int(state.step)
    progress = stack.enter_context(
        closing(
            Progress(
                experiment.total_steps,
                config.train.batch_size,
                experiment.steps_per_epoch,
                start_step=step,
                enabled=lead,
            )
        )
    )
    if step:
        progress.note(f"resuming at step {step}")
    writer = stack.enter_context(
        MetricsWriter(
            workdir,
            start_step=step,
            eval_step=int(evaluation["step"]) if evaluation else 0,
            enabled=lead,
        )
    )
    waits = InputWait()
    reporter = Reporter(experiment, writer, progress, callbacks, waits, evaluation)
    return Run(experiment, workdir, checkpoints, progress, reporter, waits, stop), state


def _train_to_end(run: Run, state: TrainState) -> TrainState:
    experiment, reporter = run.experiment, run.reporter
    step = int(state.step)
    if step and _evaluation_due(run, step) and not reporter.evaluated(step):
        _evaluate(run, state)
    batches = _batches(experiment, step)
    with closing(batches):
        ready = run.waits.over(batches)
        for batch in sharding.device_batches(ready, experiment.mesh):
            state, metrics = experiment.train_step(state, batch)
            step += 1
            reporter.step(step, metrics)
            if _due(experiment, step, experiment.config.train.save_every):
                _save(run, state)
            if _evaluation_due(run, step):
                _evaluate(run, state)
            if run.stop.requested and step < experiment.total_steps:
                _save_and_stop(run, state)
    return state


def _batches(experiment: Experiment, start_step: int) -> Any:
    config = experiment.config
    return train_batches(
        experiment.train_source,
        batch_size=config.train.batch_size,
        image_size=config.data.image_size,
        seed=config.seed,
        start_step=start_step,
        stop_step=experiment.total_steps,
        crop_area=config.data.crop_area,
        crop_ratio=config.data.crop_ratio,
        crop_form=config.data.crop_form,
        repeats=config.data.repeats,
        decoding=experiment.decoding,
        max_bad_images=config.data.max_bad_images,
        workers=config.data.workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def _due(experiment: Experiment, step: int, every_epochs: float) -> bool:
    """Whether something that happens every so many epochs happens after `step`."""
    if step == experiment.total_steps:
        return True
    every = round(every_epochs * experiment.steps_per_epoch)
    return every_epochs > 0 and step % max(every, 1) == 0


def _evaluation_due(run: Run, step: int) -> bool:
    return _due(run.experiment, step, run.experiment.config.train.eval_every)


def _save(run: Run, state: TrainState) -> None:
    """Every metric up to this step is on disk before the checkpoint is."""
    run.reporter.flush()
    with run.progress.pause():
        run.checkpoints.save(state, run.reporter.evaluation)


def _evaluate(run: Run, state: TrainState) -> None:
    run.reporter.flush()
    with run.progress.pause():
        try:
            result = run_evaluation(
                run.experiment, state.variables, lambda: bool(run.stop.requested)
            )
        except Stopped:
            _save_and_stop(run, state)
    run.reporter.add_evaluation(int(state.step), result)


def _save_and_stop(run: Run, state: TrainState) -> None:
    _save(run, state)
    run.checkpoints.wait()
    raise Stopped(
        f"{run.stop.requested}: saved step {int(state.step)} of "
        f"{run.experiment.total_steps}; run the same command again to go on"
    )


def _finish(run: Run, state: TrainState) -> dict[str, Any]:
    run.checkpoints.wait()
    evaluation = run.reporter.evaluation
    assert evaluation is not None  # the last step is always evaluated
    result = {
        "step": int(state.step),
        "epoch": int(state.step) / run.experiment.steps_per_epoch,
        **evaluation,
        "images_per_s": run.progress.images_per_s,
        "workdir": str(run.workdir),
    }
    if jax.process_index() == 0:
        write_json(run.workdir / "result.json", result)
    return result
