"""Classification: data, network, loss, batches and scores for the loop."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rtj.classification import Classification, eval_step
from rtj.data.examples import Source
from rtj.data.pipeline import eval_batches, train_batches
from rtj.data.prefetch import BatchIterator
from rtj.data.sources import eval_split, open_source
from rtj.inputs import eval_batch_size, reading_of
from rtj.parts import make_classification, make_mixing, make_model
from rtj.step_options import Batch
from rtj.task import Length, check_counted
from rtj.teacher import Teacher, make_distillation
from rtj.tricks.low_precision import POLICIES

_KEYS = ("top1", "top5", "loss")


class ClassificationTask:
    """See `rtj.task.Task`."""

    shown = ("loss", "top1", "lr")
    score = "top1"
    weights_under = ()

    def open_data(self, config: ConfigDict) -> tuple[Source, Source]:
        """See `rtj.data.sources`."""
        data = config.data
        held_out = data.eval_split or eval_split(data.name, data.data_dir)
        return _open(config, data.train_split), _open(config, held_out)

    def class_names(self, source: Source) -> None:
        """See `rtj.labels`, which finds them when they are asked for."""

    def model(self, config: ConfigDict, num_classes: int) -> nn.Module:
        """A network of `rtj.models`."""
        return make_model(config, num_classes)

    def loss(
        self,
        config: ConfigDict,
        model: nn.Module,
        mesh: Mesh,
        length: Length,
        teacher: Teacher | None,
    ) -> Classification:
        """Cross-entropy, with what the tricks make of it."""
        mixing = make_mixing(config, length.steps_per_epoch, length.total_steps)
        distillation = None if teacher is None else make_distillation(config, teacher)
        return make_classification(config, model, mixing, distillation)

    def eval_step(
        self, config: ConfigDict, model: nn.Module, mesh: Mesh
    ) -> Callable[[dict[str, Any], Batch], dict[str, jax.Array]]:
        """See `rtj.classification.eval_step`."""
        return partial(
            eval_step,
            model=model,
            mean=config.data.mean,
            std=config.data.std,
            policy=POLICIES[config.tricks.precision],
        )

    def initial_model(self, config: ConfigDict, model: nn.Module) -> nn.Module:
        """The network itself."""
        return model

    def training_batches(self, experiment: Any, start_step: int) -> BatchIterator:
        """Random crops of the stream."""
        config = experiment.config
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
            reading=reading_of(experiment),
        )

    def evaluation_batches(self, experiment: Any) -> BatchIterator:
        """Centre crops, in order."""
        config = experiment.config
        return eval_batches(
            experiment.eval_source,
            batch_size=eval_batch_size(experiment),
            image_size=config.data.image_size,
            eval_resize=config.data.eval_resize,
            reading=reading_of(experiment),
        )

    def scores(
        self, experiment: Any, keep_rows: Callable[[np.ndarray], None]
    ) -> "ClassificationScores":
        """Top-1, top-5 and loss."""
        return ClassificationScores(len(experiment.eval_source), keep_rows)

    def abstract_batch(self, config: ConfigDict) -> dict[str, jax.ShapeDtypeStruct]:
        """Images of one size."""
        rows, size = config.train.batch_size, config.data.image_size
        numbers = jax.ShapeDtypeStruct((rows,), np.int32)
        batch = {
            "image": jax.ShapeDtypeStruct((rows, size, size, 3), np.uint8),
            "label": numbers,
            "index": numbers,
        }
        return batch | {"copy": numbers} if config.data.repeats > 1 else batch


class ClassificationScores:
    """Sums over the counted examples, divided once at the end.

    Args:
        examples: of the data set.
        keep_rows: is given int32 arrays (n, 3) of index, label and predicted class.
    """

    def __init__(self, examples: int, keep_rows: Callable[[np.ndarray], None]) -> None:
        self._examples, self._keep_rows = examples, keep_rows
        self._sums = dict.fromkeys((*_KEYS, "examples", "skipped"), 0.0)

    def add(self, part: dict[str, np.ndarray]) -> None:
        """See `rtj.task.Scores`."""
        sums = self._sums
        self._sums = {key: value + float(part[key]) for key, value in sums.items()}
        rows = part["rows"]
        self._keep_rows(rows[rows[:, 0] >= 0])

    def result(self) -> dict[str, float]:
        """`top1`, `top5`, `loss` and `examples`."""
        sums = self._sums
        examples, skipped = round(sums["examples"]), round(sums["skipped"])
        check_counted(examples, skipped, self._examples)
        return {key: sums[key] / examples for key in _KEYS} | {"examples": examples}


def _open(config: ConfigDict, split: str) -> Source:
    return open_source(
        config.data.name,
        split,
        data_dir=config.data.data_dir,
        image_size=config.data.image_size,
        num_classes=config.model.num_classes or 1000,
    )


TASK = ClassificationTask()
