"""Detection: data, network, loss, batches and scores for the loop."""

from collections.abc import Callable
from dataclasses import fields
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
from rtj.task import Data, Length
from rtj.teacher import Teacher
from rtj.transfer.backbone_task import BackboneTask
from rtj.transfer.buckets import detection_buckets
from rtj.transfer.detection.faster_rcnn import FasterRCNN, create_faster_rcnn
from rtj.transfer.detection.inference import detect
from rtj.transfer.detection.options import DetectionOptions
from rtj.transfer.detection.pipeline import eval_batches, train_batches
from rtj.transfer.detection.scores import DetectionScores
from rtj.transfer.detection.sources import eval_split, open_boxes
from rtj.transfer.detection.training import DetectionLoss
from rtj.tricks.low_precision import POLICIES


class DetectionTask(BackboneTask):
    """See `rtj.task.Task`."""

    shown = ("loss", "head_acc", "lr")
    score = "map"

    def open_data(self, config: ConfigDict) -> tuple[Data, Data]:
        """See `rtj.transfer.detection.sources`."""
        data = config.data
        held_out = data.eval_split or eval_split(data.name, data.data_dir)
        return (
            open_boxes(data.name, data.train_split, data_dir=data.data_dir),
            open_boxes(data.name, held_out, data_dir=data.data_dir),
        )

    def model(self, config: ConfigDict, num_classes: int) -> FasterRCNN:
        """Faster R-CNN on the config's network."""
        options = config.detection
        return create_faster_rcnn(
            config.model.name,
            num_classes,
            neck=options.neck,
            anchor_sizes=tuple(options.anchor_sizes),
            rpn_channels=options.rpn_channels,
            roi_size=options.roi_size,
            fpn_channels=options.fpn_channels,
            fc=options.fc,
            **network_options(config),
        )

    def loss(
        self,
        config: ConfigDict,
        model: nn.Module,
        mesh: Mesh,
        length: Length,
        teacher: Teacher | None,
    ) -> DetectionLoss:
        """The four losses of Faster R-CNN."""
        data = config.data
        return DetectionLoss(
            model=cast(FasterRCNN, model),
            seed=config.seed,
            mean=data.mean,
            std=data.std,
            options=make_options(config),
            flip=data.flip,
            tuning=make_fine_tuning(config),
            mesh=mesh,
        )

    def eval_step(
        self, config: ConfigDict, model: nn.Module, mesh: Mesh
    ) -> Callable[[dict[str, Any], Batch], dict[str, jax.Array]]:
        """See `rtj.transfer.detection.inference.detect`."""
        return partial(
            detect,
            model=cast(FasterRCNN, model),
            mean=config.data.mean,
            std=config.data.std,
            policy=POLICIES[config.tricks.precision],
            options=make_options(config),
            mesh=mesh,
        )

    def training_batches(self, experiment: Any, start_step: int) -> BatchIterator:
        """Images of a like shape together, in windows of the stream."""
        config = experiment.config
        return train_batches(
            experiment.train_source,
            batch_size=config.train.batch_size,
            short_side=config.detection.short_side,
            max_side=config.detection.max_side,
            max_objects=config.detection.max_objects,
            seed=config.seed,
            start_step=start_step,
            stop_step=experiment.total_steps,
            reading=reading_of(experiment),
        )

    def evaluation_batches(self, experiment: Any) -> BatchIterator:
        """All images, those of a like shape together."""
        config = experiment.config
        return eval_batches(
            experiment.eval_source,
            batch_size=eval_batch_size(experiment),
            short_side=config.detection.short_side,
            max_side=config.detection.max_side,
            reading=reading_of(experiment),
        )

    def scores(
        self, experiment: Any, keep_rows: Callable[[np.ndarray], None]
    ) -> DetectionScores:
        """Mean average precision."""
        source = experiment.eval_source
        return DetectionScores(source, experiment.config.detection.metric)

    def abstract_batch(self, config: ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
        """Images of the largest shape that is not a mixed batch's."""
        options, rows = config.detection, config.train.batch_size
        shapes = detection_buckets(options.short_side, options.max_side)
        height, width = shapes[-1]  # the widest
        objects = options.max_objects
        array = jax.ShapeDtypeStruct
        return {
            "image": array((rows, height, width, 3), np.uint8),
            "size": array((rows, 2), np.int32),
            "boxes": array((rows, objects, 4), np.float32),
            "labels": array((rows, objects), np.int32),
            "objects": array((rows, objects), np.bool_),
            "difficult": array((rows, objects), np.bool_),
            "index": array((rows,), np.int32),
        }


def make_options(config: ConfigDict) -> DetectionOptions:
    """Those fields of `config.detection` that are `DetectionOptions`'."""
    names = {field.name for field in fields(DetectionOptions)}
    return DetectionOptions(
        **{key: value for key, value in config.detection.items() if key in names}
    )


TASK = DetectionTask()
