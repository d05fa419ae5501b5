"""Exact evaluation: sums and counts under a mask, divided once at the end."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from rtj import sharding
from rtj.checkpoint import Checkpointer
from rtj.data.pipeline import eval_batches
from rtj.errors import CheckpointError, Stopped
from rtj.experiment import Experiment, build

_KEYS = ("top1", "top5", "loss")


def run_evaluation(
    experiment: Experiment,
    variables: dict[str, Any],
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, float]:
    """top1 and top5 (fractions of 1), loss and examples over the whole held-out set.

    Every example counts once, for any batch size, number of devices and hosts; the
    few that cannot be decoded (`data.max_bad_images`) are left out and logged.

    Raises:
        Stopped: `should_stop()` turned true between two batches.
        RuntimeError: the counted examples are not the data set's.
    """
    source = experiment.eval_source
    batches = eval_batches(
        source,
        batch_size=eval_batch_size(experiment),
        image_size=experiment.config.data.image_size,
        eval_resize=experiment.config.data.eval_resize,
        decoding=experiment.decoding,
        max_bad_images=experiment.config.data.max_bad_images,
        workers=experiment.config.data.workers,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    sums = dict.fromkeys((*_KEYS, "examples", "skipped"), 0.0)
    with closing(batches):
        for batch in sharding.device_batches(batches, experiment.mesh):
            if should_stop():
                raise Stopped("stopped during evaluation")
            part = jax.device_get(experiment.eval_step(variables, batch))
            sums = {key: value + float(part[key]) for key, value in sums.items()}
    examples, skipped = round(sums["examples"]), round(sums["skipped"])
    if examples + skipped != len(source):
        raise RuntimeError(
            f"evaluation counted {examples} examples and {skipped} that cannot be "
            f"decoded, of {len(source)}"
        )
    return {key: sums[key] / examples for key in _KEYS} | {"examples": examples}


def eval_batch_size(experiment: Experiment) -> int:
    """The training micro-batch, rounded up to a multiple of the devices."""
    train = experiment.config.train
    devices = experiment.mesh.size
    return -(-train.batch_size // train.accumulate // devices) * devices


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
    experiment = build(config)
    with Checkpointer(directory) as checkpoints:
        state, _ = checkpoints.restore(experiment.init_state())
    step = int(state.step)
    return {
        "step": step,
        "epoch": step / experiment.steps_per_epoch,
        **run_evaluation(experiment, state.variables),
        "workdir": str(workdir),
    }
