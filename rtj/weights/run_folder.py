"""The workdir of an rtj run, and the checkpoints inside it, as weights."""

import json
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from rtj.config import check, default_config, set_field
from rtj.errors import CheckpointError, ConfigError
from rtj.preprocess import Preprocess
from rtj.weights.weight_file import WeightFile, unreadable


def is_run_folder(path: Path) -> bool:
    """Whether `path` is a workdir, its `checkpoints`, or one step of these."""
    return _checkpoints(path) is not None


def _checkpoints(path: Path) -> tuple[Path, int | None] | None:
    """The folder of all checkpoints and the step meant (None: the newest)."""
    parts = (path / "state", path / "metadata")
    if path.name.isdecimal() and any(part.is_dir() for part in parts):
        return path.parent, int(path.name)
    for folder in (path / "checkpoints", path):
        if folder.is_dir() and any(p.name.isdecimal() for p in folder.iterdir()):
            return folder, None
    return None


def read_config(path: Path) -> ConfigDict | None:
    """The config that a workdir was made by; None beside checkpoints without one.

    `path` is the workdir or a folder inside it.

    Raises:
        CheckpointError: `config.json` is damaged or of another version of rtj.
    """
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "config.json").is_file():
            return _parse_config(folder / "config.json")
    return None


def _parse_config(path: Path) -> ConfigDict:
    try:
        flat = json.loads(path.read_text())
        config = default_config(flat["data.name"], flat.get("task", "classification"))
        with config.unlocked():
            for field, value in flat.items():
                value = tuple(value) if isinstance(value, list) else value
                if "." in field:
                    set_field(config, field, value)
                else:
                    config[field] = value
        check(config)
    except ConfigError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read: {error}") from error
    except Exception as error:  # whatever a ConfigDict makes of keys and values
        raise CheckpointError(f"{str(path)!r} cannot be read: {error!r}") from error
    return config


def read_run_folder(path: Path) -> WeightFile:
    """The newest (or the named) checkpoint's parameters and running statistics.

    Works on any number of devices and without the run's data set.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    # Orbax takes seconds to import and no other weight file needs it.
    from rtj.checkpoint import newest_variables, restore_variables

    found = _checkpoints(path)
    if found is None:
        raise unreadable(path, "it holds no checkpoints of rtj")
    folder, step = found
    if step is None:
        variables = newest_variables(folder)
    else:
        variables = restore_variables(folder / str(step))
    config = read_config(path)
    metadata: dict[str, Any] = (
        {} if config is None else {"rtj_model": config.model.name}
    )
    return WeightFile(flatten_dict(variables, sep="/"), str(path), "flax", metadata)


def run_preprocess(config: ConfigDict) -> Preprocess:
    """How a run's evaluation prepares images."""
    data = config.data
    return Preprocess(
        size=data.image_size,
        resize=data.eval_resize,
        interpolation="bilinear",
        mean=tuple(data.mean),
        std=tuple(data.std),
    )
