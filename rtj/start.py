"""The parts of one start of a run: opened, and the state restored into them."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rtj import preflight
from rtj.checkpoint import (
    Checkpointer,
    Restored,
    Retention,
    newest_step,
    restore_newest,
)
from rtj.checkpoint.step_folders import remove_leftovers
from rtj.config import config_hash
from rtj.data.input_wait import InputWait
from rtj.experiment import Experiment
from rtj.kept_programs import KeptPrograms
from rtj.metrics import MetricsWriter, read_metrics
from rtj.peers import Peers
from rtj.profile import Profile, ProfileSteps
from rtj.progress import Progress
from rtj.reporter import Callback, Reporter
from rtj.run_log import RunLog
from rtj.saving import Saver
from rtj.skipped import SkippedSteps
from rtj.state import TrainState
from rtj.stop import StopRequest
from rtj.trick_table import format_trick_table
from rtj.watchdog import OnStall, Watchdog


@dataclass(frozen=True)
class Run:
    """The parts, open while it trains."""

    experiment: Experiment
    workdir: Path
    peers: Peers
    saver: Saver
    progress: Progress
    reporter: Reporter
    waits: InputWait
    stop: StopRequest
    watchdog: Watchdog
    profile: Profile
    programs: KeptPrograms
    train_step: Callable[..., Any]


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


def start(
    experiment: Experiment,
    workdir: Path,
    peers: Peers,
    callbacks: Sequence[Callback],
    profile: ProfileSteps | None,
    log: RunLog,
    on_stall: OnStall,
    programs: KeptPrograms,
    stack: ExitStack,
) -> tuple[Run, TrainState]:
    """Opens the parts on `stack`; the state is the newest checkpoint's, or fresh."""
    stop = stack.enter_context(StopRequest(peers))
    stall_s = experiment.config.train.stall_s
    watchdog = stack.enter_context(Watchdog(stall_s, workdir, peers, on_stall))
    checkpoints = stack.enter_context(_checkpointer(experiment, workdir, peers))
    restored = _state(experiment, workdir / "checkpoints", peers, programs)
    step = int(restored.state.step)
    progress = stack.enter_context(closing(_progress(experiment, step, peers, log)))
    for line in restored.passed_over:
        progress.note(line)
    if step:
        progress.note(f"resuming at step {step}")
    saver, waits = (
        Saver(checkpoints, progress.note, retries=peers.count == 1),
        InputWait(),
    )
    writer, skipped = _writers(experiment, workdir, peers, restored, saver, stack)
    run = Run(
        experiment=experiment,
        workdir=workdir,
        peers=peers,
        saver=saver,
        progress=progress,
        reporter=Reporter(
            experiment,
            writer,
            progress,
            skipped,
            callbacks,
            waits,
            restored.evaluation,
        ),
        waits=waits,
        stop=stop,
        watchdog=watchdog,
        profile=stack.enter_context(
            Profile(profile if peers.lead else None, workdir / "profile")
        ),
        programs=programs,
        train_step=programs.kept("train-step", experiment.train_step, varying=1),
    )
    return run, restored.state


def _checkpointer(experiment: Experiment, workdir: Path, peers: Peers) -> Checkpointer:
    return Checkpointer(
        workdir / "checkpoints",
        retention=_retention(experiment),
        config_hash=config_hash(experiment.config),
        scores=partial(_scores, workdir, experiment),
        lead=peers.lead,
    )


def _writers(
    experiment: Experiment,
    workdir: Path,
    peers: Peers,
    restored: Restored,
    saver: Saver,
    stack: ExitStack,
) -> tuple[MetricsWriter, SkippedSteps]:
    step, evaluation = int(restored.state.step), restored.evaluation
    writer = MetricsWriter(
        workdir,
        start_step=step,
        eval_step=int(evaluation["step"]) if evaluation else 0,
        enabled=peers.lead,
    )
    skipped = SkippedSteps(
        workdir,
        start_step=step,
        source=experiment.train_source,
        newest_checkpoint=saver.newest,
        enabled=peers.lead,
    )
    return stack.enter_context(writer), stack.enter_context(skipped)


def _state(
    experiment: Experiment, checkpoints: Path, peers: Peers, programs: KeptPrograms
) -> Restored:
    if peers.lead:
        remove_leftovers(checkpoints)
    newest = newest_step(checkpoints)
    preflight.check_start(peers, newest)
    if newest is None:
        keep = partial(programs.kept, "first-state")
        return Restored(experiment.first_state(keep=keep), None)
    like = experiment.abstract_state()
    return restore_newest(checkpoints, like, peers=peers, mend=True)


def _retention(experiment: Experiment) -> Retention:
    kept = experiment.config.checkpoint
    every = round(kept.keep_every * experiment.steps_per_epoch)
    return Retention(kept.keep, kept.keep_best, max(every, 1) if every else 0)


def _scores(workdir: Path, experiment: Experiment) -> dict[int, float]:
    """What each evaluation so far scored, by step."""
    name = experiment.task.score
    return {line["step"]: line[name] for line in read_metrics(workdir, ["eval"])}


def _progress(experiment: Experiment, step: int, peers: Peers, log: RunLog) -> Progress:
    return Progress(
        experiment.total_steps,
        experiment.config.train.batch_size,
        experiment.steps_per_epoch,
        start_step=step,
        enabled=peers.lead,
        log=log.write,
    )
