"""Segmentation: data, network, loss, batches and scores for the loop."""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rtj.data.prefetch import BatchIterator
from rtj.inputs import eval_batch_size, reading_of
from rtj.parts import make_fine_tuning, network_options
from rtj.step_options import Batch
from rtj.task import Data, Length, check_counted
from rtj.teacher import Teacher
from rtj.transfer.backbone_task import BackboneTask
from rtj.transfer.segmentation.fcn import FCN, create_fcn
from rtj.transfer.segmentation.mean_iou import mean_iou, pixel_accuracy
from rtj.transfer.segmentation.pipeline import eval_batches, train_batches
from rtj.transfer.segmentation.sources import eval_split, open_masks
from rtj.transfer.segmentation.training import Segmentation, eval_step
from rtj.tricks.low_precision import POLICIES


class SegmentationTask(BackboneTask):
    """See `rtj.task.Task`."""

    shown = ("loss", "pixel_accuracy", "lr")
    score = "mean_iou"

    def open_data(self, config: ConfigDict) -> tuple[Data, Data]:
        """See `rtj.transfer.segmentation.sources`."""
        data, classes = config.data, config.model.num_classes
        train = open_masks(
            data.name, data.train_split, data_dir=data.data_dir, num_classes=classes
        )
        held_out = open_masks(
            data.name,
            data.eval_split or eval_split(data.name, data.data_dir),
            data_dir=data.data_dir,
            num_classes=train.num_classes,  # or all masks are read once more
        )
        return train, held_out

    def model(self, config: ConfigDict, num_classes: int) -> FCN:
        """FCN on the config's network."""
        return make_fcn(config, num_classes)

    def loss(
        self,
        config: ConfigDict,
        model: nn.Module,
        mesh: Mesh,
        length: Length,
        teacher: Teacher | None,
    ) -> Segmentation:
        """Cross-entropy of the pixels, of both heads."""
        options, data = config.segmentation, config.data
        return Segmentation(
            model=cast(FCN, model),
            augment={
                "seed": config.seed,
                "base": options.base_size,
                "crop": data.image_size,
                "scale": options.scale,
                "flip": data.flip,
                "mean": data.mean,
                "std": data.std,
            },
            aux_weight=options.aux_weight,
            tuning=make_fine_tuning(config),
        )

    def eval_step(
        self, config: ConfigDict, model: nn.Module, mesh: Mesh
    ) -> Callable[[dict[str, Any], Batch], dict[str, jax.Array]]:
        """See `rtj.transfer.segmentation.training.eval_step`."""
        return partial(
            eval_step,
            model=cast(FCN, model),
            mean=config.data.mean,
            std=config.data.std,
            policy=POLICIES[config.tricks.precision],
        )

    def training_batches(self, experiment: Any, start_step: int) -> BatchIterator:
        """Images on a canvas, in the order of the stream."""
        config = experiment.config
        return train_batches(
            experiment.train_source,
            batch_size=config.train.batch_size,
            canvas=config.segmentation.canvas,
            seed=config.seed,
            start_step=start_step,
            stop_step=experiment.total_steps,
            reading=reading_of(experiment),
        )

    def evaluation_batches(self, experiment: Any) -> BatchIterator:
        """Whole images, those of a like size together."""
        return eval_batches(
            experiment.eval_source,
            batch_size=eval_batch_size(experiment),
            reading=reading_of(experiment),
        )

    def scores(
        self, experiment: Any, keep_rows: Callable[[np.ndarray], None]
    ) -> "SegmentationScores":
        """Mean IoU, pixel accuracy and loss."""
        return SegmentationScores(len(experiment.eval_source))

    def abstract_batch(self, config: ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
        """Canvases."""
        rows, side = config.train.batch_size, config.segmentation.canvas
        return {
            "image": jax.ShapeDtypeStruct((rows, side, side, 3), np.uint8),
            "mask": jax.ShapeDtypeStruct((rows, side, side), np.uint8),
            "size": jax.ShapeDtypeStruct((rows, 2), np.int32),
            "index": jax.ShapeDtypeStruct((rows,), np.int32),
        }


class SegmentationScores:
    """Adds up confusion matrices; `examples` is the length of the data set."""

    def __init__(self, examples: int) -> None:
        self._examples = examples
        self._confusion: np.ndarray | int = 0
        self._sums = {"loss": 0.0, "examples": 0.0, "skipped": 0.0}

    def add(self, part: dict[str, np.ndarray]) -> None:
        """See `rtj.task.Scores`."""
        self._confusion = self._confusion + part["confusion"].astype(np.int64)
        self._sums = {k: value + float(part[k]) for k, value in self._sums.items()}

    def result(self) -> dict[str, float]:
        """`mean_iou`, `pixel_accuracy`, `loss` (mean over images) and `examples`."""
        examples, skipped = (round(self._sums[k]) for k in ("examples", "skipped"))
        check_counted(examples, skipped, self._examples)
        confusion = np.asarray(self._confusion)
        return {
            "mean_iou": mean_iou(confusion),
            "pixel_accuracy": pixel_accuracy(confusion),
            "loss": self._sums["loss"] / examples,
            "examples": examples,
        }


def make_fcn(config: ConfigDict, num_classes: int) -> FCN:
    """The FCN of a config."""
    options = config.segmentation
    return create_fcn(
        config.model.name,
        num_classes,
        aux=options.aux,
        skip=options.skip,
        dropout=options.dropout,
        output_stride=options.output_stride,
        **network_options(config),
    )


TASK = SegmentationTask()
