"""The parts of one start of a run: opened, and the state restored into them."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from rtj import preflight
from rtj.checkpoint import Checkpointer, Evaluation
from rtj.config import config_hash
from rtj.data.input_wait import InputWait
from rtj.experiment import Experiment
from rtj.metrics import MetricsWriter
from rtj.peers import Peers
from rtj.profile import Profile, ProfileSteps
from rtj.progress import Progress
from rtj.reporter import Callback, Reporter
from rtj.state import TrainState
from rtj.stop import StopRequest
from rtj.trick_table import format_trick_table


@dataclass(frozen=True)
class Run:
    """The parts, open while it trains."""

    experiment: Experiment
    workdir: Path
    peers: Peers
    checkpoints: Checkpointer
    progress: Progress
    reporter: Reporter
    waits: InputWait
    stop: StopRequest
    profile: Profile


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
    stack: ExitStack,
) -> tuple[Run, TrainState]:
    """Opens the parts on `stack`; the state is the newest checkpoint's, or fresh."""
    stop = stack.enter_context(StopRequest(peers))
    checkpoints = stack.enter_context(
        Checkpointer(
            workdir / "checkpoints",
            keep=experiment.config.checkpoint.keep,
            config_hash=config_hash(experiment.config),
        )
    )
    preflight.check_start(peers, checkpoints.latest_step())
    state, evaluation = _state(experiment, checkpoints)
    step = int(state.step)
    progress = stack.enter_context(closing(_progress(experiment, step, peers)))
    if step:
        progress.note(f"resuming at step {step}")
    writer = stack.enter_context(
        MetricsWriter(
            workdir,
            start_step=step,
            eval_step=int(evaluation["step"]) if evaluation else 0,
            enabled=peers.lead,
        )
    )
    waits = InputWait()
    run = Run(
        experiment=experiment,
        workdir=workdir,
        peers=peers,
        checkpoints=checkpoints,
        progress=progress,
        reporter=Reporter(experiment, writer, progress, callbacks, waits, evaluation),
        waits=waits,
        stop=stop,
        profile=stack.enter_context(
            Profile(profile if peers.lead else None, workdir / "profile")
        ),
    )
    return run, state


def _state(
    experiment: Experiment, checkpoints: Checkpointer
) -> tuple[TrainState, Evaluation | None]:
    if checkpoints.latest_step() is None:
        return experiment.first_state(), None
    return checkpoints.restore(experiment.init_state())


def _progress(experiment: Experiment, step: int, peers: Peers) -> Progress:
    return Progress(
        experiment.total_steps,
        experiment.config.train.batch_size,
        experiment.steps_per_epoch,
        start_step=step,
        enabled=peers.lead,
    )
