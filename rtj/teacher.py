"""The teacher of a run with distillation: opened, checked, in its own precision."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from rtj.errors import ConfigError, RtjError
from rtj.models import create_model
from rtj.recipes import recipe
from rtj.serving import Network, open_network
from rtj.tricks.distillation import Distillation
from rtj.tricks.low_precision import POLICIES
from rtj.weights.fingerprint import fingerprint
from rtj.weights.load import variable_shapes
from rtj.weights.run_folder import is_run_folder

Colour = tuple[float, ...]


@dataclass(frozen=True)
class Teacher:
    """A trained network to learn from.

    Attributes:
        name: in the registry.
        model: computes in the teacher's precision; None: its logits are known.
        variables: the model's arrays, or their shapes; without a model the logits,
            float32 (examples, K).
        mean, std: RGB on the scale 0 to 255, of the images that it was trained on.
        fingerprint: of the model's arrays, "" of shapes.
    """

    name: str
    model: Any
    variables: Any
    mean: Colour
    std: Colour
    fingerprint: str = ""


def open_teacher(config: ConfigDict, num_classes: int) -> Teacher | None:
    """The network that `tricks.teacher` names; None where that is empty.

    Raises:
        ConfigError, CheckpointError: it cannot be opened, or has other classes.
    """
    tricks = config.tricks
    if not tricks.teacher:
        return None
    place = f"tricks.teacher={tricks.teacher!r}"
    try:
        network = _open(tricks.teacher, tricks.teacher_model)
    except RtjError as error:
        raise type(error)(f"{place}: {error}") from error
    found = network.model.num_classes
    if found != num_classes:
        raise ConfigError(
            f"{place} tells {found} classes apart, the data set has {num_classes}"
        )
    variables = jax.tree.map(np.asarray, network.variables)
    return Teacher(
        name=network.name,
        model=_in_precision(config, network.model),
        variables=variables,
        mean=network.preprocess.mean,
        std=network.preprocess.std,
        fingerprint=fingerprint(variables),
    )


def planned_teacher(config: ConfigDict, num_classes: int) -> Teacher | None:
    """A teacher of shapes, whose weights need not be at hand.

    Its network is `tricks.teacher_model`, else the one that `:teacher` trains for the
    data set, with that network's own options.
    """
    if not config.tricks.teacher:
        return None
    name = config.tricks.teacher_model or recipe(config.data.name).teacher
    model = create_model(name, num_classes=num_classes)
    return Teacher(
        name=name,
        model=_in_precision(config, model),
        variables=variable_shapes(model),
        mean=config.data.mean,
        std=config.data.std,
    )


def _open(source: str, model: str) -> Network:
    if is_run_folder(Path(source)):
        return open_network(checkpoint=source, model=model)
    return open_network(weights=source, model=model)


def _in_precision(config: ConfigDict, model: nn.Module) -> nn.Module:
    tricks = config.tricks
    return model.clone(
        dtype=POLICIES[tricks.teacher_precision or tricks.precision].dtype
    )


def make_distillation(config: ConfigDict, teacher: Teacher) -> Distillation:
    """How a run learns from `teacher`, which is shown the student's images its way."""
    tricks, data = config.tricks, config.data
    colours = zip(data.mean, data.std, teacher.mean, teacher.std, strict=True)
    pairs = [(s / ts, (m - tm) / ts) for m, s, tm, ts in colours]
    return Distillation(
        temperature=tricks.temperature,
        form=tricks.distill_form,
        model=teacher.model,
        policy=POLICIES[tricks.teacher_precision or tricks.precision],
        scale=tuple(scale for scale, _ in pairs),
        shift=tuple(shift for _, shift in pairs),
    )
