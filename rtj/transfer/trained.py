"""A network that a run of segmentation or detection trained, ready to be used."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from rtj.errors import CheckpointError
from rtj.labels import read_names
from rtj.task import task_of
from rtj.weights.run_folder import is_run_folder, read_config, read_run_folder
from rtj.workdir import read_starts


@dataclass(frozen=True)
class Trained:
    """What a run knows.

    Attributes:
        config: of the run.
        variables: as `model.apply` takes them.
        class_names: one a class.
    """

    config: ConfigDict
    model: nn.Module
    variables: dict[str, Any]
    class_names: tuple[str, ...]


def open_trained(workdir: Path, classes: str = "") -> Trained:
    """The newest (or the named) checkpoint of a run of segmentation or detection.

    Args:
        workdir: of the run, or its checkpoints, or one of them.
        classes: a file with the names of the classes, see `rtj.labels`; else the
            workdir knows them.

    Raises:
        CheckpointError: there is none, or it does not fit the run's config.
        ConfigError: `classes` cannot be read or has another number of names.
    """
    config = run_config(workdir)
    names = _recorded_names(workdir)
    model = task_of(config).model(config, config.model.num_classes or len(names))
    if classes:
        names = read_names(classes, len(names))
    flat: dict[Any, Any] = {
        tuple(key.split("/")): tensor
        for key, tensor in read_run_folder(workdir).tensors.items()
    }
    wanted = _shapes(model, config.data.image_size)
    found = {path: tuple(leaf.shape) for path, leaf in flat.items()}
    if found != wanted:
        differ = sorted("/".join(path) for path, _ in found.items() ^ wanted.items())
        raise CheckpointError(
            f"the checkpoint in {str(workdir)!r} does not fit its config: "
            f"{', '.join(differ[:3])} and {max(len(differ) - 3, 0)} more"
        )
    variables: dict[str, Any] = unflatten_dict(jax.tree.map(jnp.asarray, flat))
    return Trained(config, model, variables, names)


def run_config(workdir: Path) -> ConfigDict:
    """The config of a run; CheckpointError if the folder holds none."""
    config = read_config(workdir) if is_run_folder(workdir) else None
    if config is None:
        raise CheckpointError(f"{str(workdir)!r} holds no checkpoint of an rtj run")
    return config


def _recorded_names(workdir: Path) -> tuple[str, ...]:
    # `workdir` may be its checkpoints, or one of them.
    folders = (workdir, workdir.parent, workdir.parent.parent)
    folder = next((f for f in folders if (f / "config.json").is_file()), workdir)
    names = [start["classes"] for start in read_starts(folder) if "classes" in start]
    if not names or not names[-1]:
        raise CheckpointError(
            f"{str(folder / 'starts.jsonl')!r} does not say which classes there are"
        )
    return tuple(names[-1])


def _shapes(model: nn.Module, size: int) -> dict[tuple[str, ...], tuple[int, ...]]:
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    init = partial(model.init, train=False)
    variables: Any = jax.eval_shape(init, jax.random.key(0), images)
    flat: Any = flatten_dict(variables)
    return {path: leaf.shape for path, leaf in flat.items()}
