"""The host batches of an experiment: this process's rows of each."""

from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from rtj import sharding
from rtj.data.decode import Decoding
from rtj.data.prefetch import BatchIterator
from rtj.data.reading import Reading


def training_batches(experiment: Any, start_step: int) -> BatchIterator:
    """From step `start_step` (0: from the beginning) to the end of the run."""
    batches: BatchIterator = experiment.task.training_batches(experiment, start_step)
    return batches


def evaluation_batches(experiment: Any) -> BatchIterator:
    """The whole held-out set, padded to a whole number of batches."""
    batches: BatchIterator = experiment.task.evaluation_batches(experiment)
    return batches


def reading(config: ConfigDict, decoding: Decoding, mesh: Mesh) -> Reading:
    """How a config's data are read, and this process's rows of a mesh's batches."""
    index, count = sharding.process_rows(mesh)
    return Reading(
        decoding=decoding,
        max_bad_images=config.data.max_bad_images,
        workers=config.data.workers,
        process_index=index,
        process_count=count,
    )


def reading_of(experiment: Any) -> Reading:
    """`reading` of an experiment."""
    return reading(experiment.config, experiment.decoding, experiment.mesh)


def eval_batch_size(experiment: Any) -> int:
    """`train.eval_batch_size` or the training micro-batch, a multiple of the devices
    or the next one."""
    train = experiment.config.train
    devices = experiment.mesh.size
    size = train.eval_batch_size or train.batch_size // train.accumulate
    return -(-size // devices) * devices
