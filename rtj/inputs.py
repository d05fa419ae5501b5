"""The host batches of an experiment: this process's rows of each."""

from rtj import sharding
from rtj.data.pipeline import eval_batches, train_batches
from rtj.data.prefetch import BatchIterator
from rtj.experiment import Experiment


def training_batches(experiment: Experiment, start_step: int) -> BatchIterator:
    """From step `start_step` (0: from the beginning) to the end of the run."""
    config = experiment.config
    index, count = sharding.process_rows(experiment.mesh)
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
        process_index=index,
        process_count=count,
    )


def evaluation_batches(experiment: Experiment) -> BatchIterator:
    """The whole held-out set, padded to a whole number of batches."""
    config = experiment.config
    index, count = sharding.process_rows(experiment.mesh)
    return eval_batches(
        experiment.eval_source,
        batch_size=eval_batch_size(experiment),
        image_size=config.data.image_size,
        eval_resize=config.data.eval_resize,
        decoding=experiment.decoding,
        max_bad_images=config.data.max_bad_images,
        workers=config.data.workers,
        process_index=index,
        process_count=count,
    )


def eval_batch_size(experiment: Experiment) -> int:
    """The training micro-batch, rounded up to a multiple of the devices."""
    train = experiment.config.train
    devices = experiment.mesh.size
    return -(-train.batch_size // train.accumulate // devices) * devices
