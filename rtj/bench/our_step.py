"""rtj's own train step and network, as a training run uses them on one device.

The row is `efficient` of `configs/ablation.py`, with the statistics of batch norm over
the whole batch, as the peers have it. What the peers leave to the host, flip, jitter,
PCA noise and normalisation, is part of the train step.
"""

from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rtj import sharding
from rtj.bench import step_jax
from rtj.bench.step_work import CLASSES, Running, Work
from rtj.config import check, set_field
from rtj.config_args import get_config
from rtj.experiment import build_program
from rtj.models import model_summary

_IMAGES = 1_281_167  # ImageNet's: the length of an epoch, which the schedule divides by


def make(work: Work) -> Running:
    """An entry of `rtj.bench.step_contest`; its facts have the network's `macs`."""
    config = make_config(work)
    mesh = sharding.make_mesh(config.mesh.devices)
    program = build_program(config, mesh, num_classes=CLASSES, examples=_IMAGES)
    state = program.init_state()
    macs = model_summary(work.network, work.size).macs
    facts = {"network": work.network, "macs": macs}
    if work.mode == "train":
        batch = jax.device_put(_batch(program.task.abstract_batch(config), work),
                               sharding.split(mesh))  # fmt: skip
        return step_jax.training(program.train_step, state, batch, facts)
    return step_jax.inference(
        program.model, state.weights, step_jax.images(work), work, facts
    )


def make_config(work: Work) -> ConfigDict:
    """The config of the run that the step is of."""
    config = get_config(f"ablation:efficient,data=synthetic,precision={work.precision}")
    changes: dict[str, Any] = {
        "model.name": work.network,
        "model.bn_group_size": work.batch,
        "train.batch_size": work.batch,
        "data.image_size": work.size,
        "data.eval_resize": work.size,
        "mesh.devices": 1,
    }
    for field, value in changes.items():
        set_field(config, field, value)
    check(config)
    return config


def _batch(shapes: dict[str, Any], work: Work) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    image = shapes["image"]
    return {
        "image": random.integers(0, 256, image.shape, image.dtype),
        "label": step_jax.labels(work),
        "index": np.arange(work.batch, dtype=np.int32),
    }
