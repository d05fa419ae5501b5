"""The teacher's logits of every training image, computed once before training.

For studies without augmentation, where each image is always the same one: a step then
looks the logits up and costs what it does without a teacher.
"""

import dataclasses
import math
from contextlib import closing
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rtj import sharding
from rtj.data.augment import normalize
from rtj.data.decode import Decoding
from rtj.data.examples import Source
from rtj.data.pipeline import train_batches
from rtj.errors import ConfigError
from rtj.inputs import reading
from rtj.teacher import Teacher, make_distillation
from rtj.tricks.distillation import Distillation

MAX_BYTES = 2 * 2**30  # on every device


def with_cached_logits(
    teacher: Teacher, config: ConfigDict, mesh: Mesh, source: Source, decoding: Decoding
) -> Teacher:
    """A teacher whose array is a table (examples, K) float32 of its logits.

    Raises:
        ConfigError: the table would be larger than `MAX_BYTES`.
    """
    shape = len(source), teacher.model.num_classes
    if 4 * math.prod(shape) > MAX_BYTES:
        raise ConfigError(
            f"tricks.teacher_cache=True: a table of {shape[0]:,} examples and "
            f"{shape[1]:,} classes is over {MAX_BYTES / 2**30:g} GiB; allowed: False"
        )
    whole, rows = sharding.replicated(mesh), sharding.split(mesh)
    compute = jax.jit(
        partial(
            _logits,
            distillation=make_distillation(config, teacher),
            mean=config.data.mean,
            std=config.data.std,
        ),
        in_shardings=(whole, rows),
        out_shardings=whole,
    )
    variables = sharding.replicate(teacher.variables, mesh)
    table = np.full(shape, np.nan, np.float32)
    with closing(_one_epoch(config, mesh, source, decoding)) as batches:
        for batch in sharding.device_batches(batches, mesh):
            index, logits = jax.device_get(compute(variables, batch))
            table[index] = logits
    return dataclasses.replace(teacher, model=None, variables=table)


def _logits(
    variables: Any,
    batch: dict[str, jax.Array],
    *,
    distillation: Distillation,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> tuple[jax.Array, jax.Array]:
    images = normalize(batch["image"], mean, std)
    return batch["index"], distillation.logits(images, batch["index"], variables)


def _one_epoch(
    config: ConfigDict, mesh: Mesh, source: Source, decoding: Decoding
) -> Any:
    """This process's rows of batches that hold every example."""
    batch_size = config.train.batch_size // config.train.accumulate
    return train_batches(
        source,
        batch_size=batch_size,
        image_size=config.data.image_size,
        seed=config.seed,
        start_step=0,
        stop_step=-(-len(source) // batch_size),
        crop_area=config.data.crop_area,
        crop_ratio=config.data.crop_ratio,
        reading=reading(config, decoding, mesh),
    )
