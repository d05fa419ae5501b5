"""Exact evaluation: sums and counts under a mask, divided once at the end."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rtj import preflight, sharding
from rtj.checkpoint import Checkpointer
from rtj.errors import CheckpointError, Stopped
from rtj.experiment import Experiment, build
from rtj.inputs import evaluation_batches
from rtj.peers import connect

_KEYS = ("top1", "top5", "loss")


def run_evaluation(
    experiment: Experiment,
    variables: dict[str, Any],
    should_stop: Callable[[], bool] = lambda: False,
    keep_rows: Callable[[np.ndarray], None] = lambda rows: None,
) -> dict[str, float]:
    """top1 and top5 (fractions of 1), loss and examples over the whole held-out set.

    Every example counts once, for any batch size, number of devices and hosts; the
    few that cannot be decoded (`data.max_bad_images`) are left out and logged.

    Args:
        keep_rows: is given int32 arrays (n, 3) of index, label and predicted class, in
            all n each counted example once.

    Raises:
        Stopped: `should_stop()` turned true between two batches.
        RuntimeError: the counted examples are not the data set's.
    """
    source = experiment.eval_source
    batches = evaluation_batches(experiment)
    sums = dict.fromkeys((*_KEYS, "examples", "skipped"), 0.0)
    with closing(batches):
        for batch in sharding.device_batches(batches, experiment.mesh):
            if should_stop():
                raise Stopped("stopped during evaluation")
            part = jax.device_get(experiment.eval_step(variables, batch))
            sums = {key: value + float(part[key]) for key, value in sums.items()}
            rows = part["rows"]
            keep_rows(rows[rows[:, 0] >= 0])
    examples, skipped = round(sums["examples"]), round(sums["skipped"])
    if examples + skipped != len(source):
        raise RuntimeError(
            f"evaluation counted {examples} examples and {skipped} that cannot be "
            f"decoded, of {len(source)}"
        )
    return {key: sums[key] / examples for key in _KEYS} | {"examples": examples}


def evaluate(
    config: ConfigDict, workdir: str | Path, checkpoint: str | Path = ""
) -> dict[str, Any]:
    """Evaluate the newest checkpoint of a workdir, or of the folder `checkpoint`.

    Returns:
        `step, epoch, top1, top5, loss, examples, workdir`.

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
    with Checkpointer(directory) as checkpoints:
        preflight.check_start(peers, checkpoints.latest_step())
        state, _ = checkpoints.restore(experiment.init_state())
    step = int(state.step)
    return {
        "step": step,
        "epoch": step / experiment.steps_per_epoch,
        **run_evaluation(experiment, state.variables),
        "workdir": str(workdir),
    }
