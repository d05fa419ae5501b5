"""Exact evaluation: sums and counts under a mask, divided once at the end."""

import logging
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rtj import preflight, sharding
from rtj.checkpoint import newest_step, restore_newest
from rtj.errors import CheckpointError, Stopped
from rtj.experiment import Experiment, build
from rtj.inputs import evaluation_batches
from rtj.peers import connect
from rtj.watchdog import OnStall, Watchdog, warn

_log = logging.getLogger(__name__)


def run_evaluation(
    experiment: Experiment,
    variables: dict[str, Any],
    should_stop: Callable[[], bool] = lambda: False,
    keep_rows: Callable[[np.ndarray], None] = lambda rows: None,
) -> dict[str, float]:
    """What the task scores over the whole held-out set, and `examples`.

    `top1`, `top5` (fractions of 1) and `loss` in classification.

    Every example counts once, for any batch size, number of devices and hosts; the
    few that cannot be decoded (`data.max_bad_images`) are left out and logged.

    Args:
        keep_rows: in classification is given int32 arrays (n, 3) of index, label and
            predicted class, in all n each counted example once.

    Raises:
        Stopped: `should_stop()` turned true between two batches.
        RuntimeError: the counted examples are not the data set's.
    """
    scores = experiment.task.scores(experiment, keep_rows)
    batches = evaluation_batches(experiment)
    with closing(batches):
        for batch in sharding.device_batches(batches, experiment.mesh):
            if should_stop():
                raise Stopped("stopped during evaluation")
            scores.add(jax.device_get(experiment.eval_step(variables, batch)))
    return scores.result()


def evaluate(
    config: ConfigDict,
    workdir: str | Path,
    checkpoint: str | Path = "",
    *,
    on_stall: OnStall = warn,
) -> dict[str, Any]:
    """Evaluate the newest checkpoint of a workdir, or of the folder `checkpoint`.

    `on_stall` as in `rtj.train`.

    Returns:
        `step, epoch`, what `run_evaluation` gives, and `workdir`.

    Raises:
        CheckpointError: there is no checkpoint, or it is not of this model.
    """
    directory = Path(checkpoint) if checkpoint else Path(workdir) / "checkpoints"
    if not directory.is_dir():
        raise CheckpointError(f"no checkpoint folder {directory}")
    peers = connect(config.mesh.wait_s)
    preflight.check_launch(peers, config, Path(workdir), finished=False)
    experiment = build(config)
    preflight.check_data(peers, experiment)
    with Watchdog(config.train.stall_s, Path(workdir), peers, on_stall) as watchdog:
        preflight.check_start(peers, newest_step(directory))
        restored = restore_newest(directory, experiment.abstract_state(), peers=peers)
        for line in restored.passed_over:
            _log.warning(line)
        state = restored.state
        step = int(state.step)
        watchdog.progress(step)

        def never_stop() -> bool:
            watchdog.progress()
            return False

        with watchdog.during("evaluation"):
            scores = run_evaluation(experiment, state.variables, never_stop)
    return {
        "step": step,
        "epoch": step / experiment.steps_per_epoch,
        **scores,
        "workdir": str(workdir),
    }
