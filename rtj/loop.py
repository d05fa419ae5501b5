"""The training loop, a page of named steps.

train = prepare -> resume or start -> (step -> report -> save -> evaluate)* -> end
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from rtj import preflight, sharding
from rtj.errors import Stopped
from rtj.evaluation import run_evaluation
from rtj.experiment import Experiment, build
from rtj.garbage import collection_paused
from rtj.initial_weights import open_initial_weights
from rtj.inputs import training_batches
from rtj.kept_programs import open_programs
from rtj.peers import Peers, connect
from rtj.profile import ProfileSteps, check_profile
from rtj.reporter import Callback
from rtj.run_log import RunLog
from rtj.start import Run, describe, start
from rtj.state import TrainState
from rtj.watchdog import OnStall, warn
from rtj.weights.run_folder import is_run_folder
from rtj.workdir import (
    check_workdir,
    open_workdir,
    read_result,
    write_predictions,
    write_result,
)
from rtj.workdir_lock import lock_workdir


def train(
    config: ConfigDict,
    workdir: str | Path,
    *,
    callbacks: Sequence[Callback] = (),
    profile: ProfileSteps | None = None,
    on_stall: OnStall = warn,
    programs: Path | None = None,
) -> dict[str, Any]:
    """Train to the end, from the newest checkpoint of `workdir` if there is one.

    A finished workdir is only reported. A signal (SIGTERM, SIGINT, SIGUSR1) saves
    and raises `Stopped`; calling again goes on from there, bit-equal on the same
    devices.

    Args:
        config: from `rtj.get_config`.
        workdir: a new folder, or one that this config made.
        callbacks: each is called as f(step, metrics) once a step, with the train
            metrics of that step as floats, while the next step runs.
        profile: steps to trace into WORKDIR/profile.
        on_stall: is called, in another thread, when nothing has moved for
            `train.stall_s` (see `rtj.watchdog`); by default it warns.
        programs: where whole compiled programs are kept from one start to the next
            (see `rtj.kept_programs`); None: nowhere.

    Several processes (`jax.distributed.initialize` comes first) each call this with
    the same arguments; all get the same result or the same `Stopped`, and the first
    writes. An error may be of one process alone, and the others then wait for it.

    Returns:
        `step, epoch`, the evaluation's scores (`top1, top5`, fractions of 1, `loss,
        examples` in classification), `images_per_s, workdir`.

    Raises:
        ConfigError, DataError, CheckpointError: nothing was lost; see the message.
        Stopped: state saved. Diverged: non-finite beyond the allowed skips, or a loss
            beyond `train.max_loss_ratio`. StaleProgram: see `rtj.kept_programs`.
    """
    workdir = Path(workdir)
    peers = connect(config.mesh.wait_s)
    check_workdir(workdir, config)
    finished = read_result(workdir)
    preflight.check_launch(peers, config, workdir, finished=finished is not None)
    if finished is not None:
        if peers.lead:
            print(f"{workdir} is finished; nothing to train")
        return finished
    with ExitStack() as stack:
        with collection_paused():
            experiment = _prepare(config, workdir, peers, profile, stack)
        log = stack.enter_context(RunLog(workdir, enabled=peers.lead))
        if peers.lead:
            print(describe(experiment, workdir), flush=True)
            log.write(describe(experiment, workdir))
        with collection_paused():
            kept = stack.enter_context(closing(open_programs(programs, experiment)))
            run, state = start(
                experiment,
                workdir,
                peers,
                callbacks,
                profile,
                log,
                on_stall,
                kept,
                stack,
            )
        state = _train_to_end(run, state)
        result = _finish(run, state)
        log.write(f"finished: {json.dumps(result)}")
        return result


def _prepare(
    config: ConfigDict,
    workdir: Path,
    peers: Peers,
    profile: ProfileSteps | None,
    stack: ExitStack,
) -> Experiment:
    """Data, programs and first weights, checked; the workdir is there and ours then."""
    experiment = build(config)
    if not is_run_folder(workdir):  # else it goes on from its checkpoint
        task = experiment.task
        model = task.initial_model(config, experiment.model)
        initial = open_initial_weights(config, model, task.weights_under)
        experiment = replace(experiment, initial=initial)
    check_profile(profile, experiment.total_steps)
    preflight.check_data(peers, experiment)
    lock_workdir(peers, workdir, stack)
    open_workdir(
        workdir,
        config,
        total_steps=experiment.total_steps,
        steps_per_epoch=experiment.steps_per_epoch,
        teacher=experiment.teacher.fingerprint if experiment.teacher else None,
        classes=experiment.task.class_names(experiment.train_source),
    )
    preflight.check_workdir_is_shared(peers, workdir)
    return experiment


def _train_to_end(run: Run, state: TrainState) -> TrainState:
    experiment, reporter = run.experiment, run.reporter
    constants = experiment.constants
    step = first = int(state.step)
    run.watchdog.progress(step)
    if step and _evaluation_due(run, step) and not reporter.evaluated(step):
        _evaluate(run, state)
    batches = training_batches(experiment, step)
    with closing(batches), run.watchdog.during("training"):
        ready = run.waits.over(batches)
        for batch in sharding.device_batches(ready, experiment.mesh):
            if step == first:
                preflight.check_compiled(
                    run.peers, experiment.train_step, state, batch, *constants
                )
            step += 1
            run.profile.before(step, state)
            with collection_paused():  # the first call traces and compiles
                state, metrics = run.train_step(state, batch, *constants)
            reporter.step(step, metrics, batch["index"])
            run.programs.check()
            run.watchdog.progress(step)
            again = run.saver.due()
            if again or _due(experiment, step, experiment.config.train.save_every):
                _save(run, state)
            if _evaluation_due(run, step):
                _evaluate(run, state)
            if run.stop.agreed() and step < experiment.total_steps:
                _save_and_stop(run, state)
    run.profile.finish(state)
    return state


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
    with run.progress.pause(), run.watchdog.during("saving"):
        run.programs.confirm()
        run.saver.save(state, run.reporter.evaluation)


def _evaluate(run: Run, state: TrainState) -> None:
    run.reporter.flush()
    rows: list[np.ndarray] = []

    def should_stop() -> bool:
        run.watchdog.progress()
        return run.stop.agreed()

    with run.progress.pause(), run.watchdog.during("evaluation"):
        run.programs.confirm()
        try:
            result = run_evaluation(
                run.experiment, state.variables, should_stop, rows.append
            )
        except Stopped:
            _save_and_stop(run, state)
    if rows and int(state.step) == run.experiment.total_steps and run.peers.lead:
        write_predictions(run.workdir, rows)
    run.reporter.add_evaluation(int(state.step), result)


def _save_and_stop(run: Run, state: TrainState) -> None:
    run.reporter.flush()
    with run.watchdog.during("saving"):
        run.programs.confirm()
        run.saver.finish(state, run.reporter.evaluation)
    raise Stopped(
        f"{run.stop.reason}: saved step {int(state.step)} of "
        f"{run.experiment.total_steps}; run the same command again to go on"
    )


def _finish(run: Run, state: TrainState) -> dict[str, Any]:
    evaluation = run.reporter.evaluation
    with run.watchdog.during("saving"):
        run.saver.finish(state, evaluation)
    assert evaluation is not None  # the last step is always evaluated
    result = {
        "step": int(state.step),
        "epoch": int(state.step) / run.experiment.steps_per_epoch,
        **evaluation,
        "images_per_s": run.progress.images_per_s,
        "workdir": str(run.workdir),
    }
    if run.peers.lead:
        write_result(run.workdir, result)
    # Once process 0 has written it: no other may exit before, and the rate is its own.
    return json.loads(run.peers.from_lead("result", json.dumps(result)))
