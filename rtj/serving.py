"""A trained network with all that is needed to use it, from a run or a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flax import linen as nn

from rtj.errors import CheckpointError, ConfigError
from rtj.labels import class_names
from rtj.models import create_model
from rtj.parts import make_model
from rtj.preprocess import Preprocess, paper
from rtj.weights.load import file_classes, fit_weights, variable_shapes
from rtj.weights.metadata import About, parse
from rtj.weights.read import read_weights
from rtj.weights.run_folder import is_run_folder, read_config, run_preprocess
from rtj.weights.weight_file import WeightFile


@dataclass(frozen=True)
class Network:
    """A model with its weights, its images and its classes.

    Attributes:
        name: in the registry.
        preprocess_from, class_names_from: where these come from, for people.
        class_names: one a class, or () if none are known.
    """

    name: str
    model: nn.Module
    variables: dict[str, Any]
    preprocess: Preprocess
    preprocess_from: str
    class_names: tuple[str, ...]
    class_names_from: str


def open_network(
    *, weights: str = "", checkpoint: str = "", model: str = "", classes: str = ""
) -> Network:
    """A network from exactly one of `weights` and `checkpoint`.

    Args:
        weights: what `read_weights` takes.
        checkpoint: a workdir of an rtj run, or the checkpoints inside one.
        model: a name of the registry; needed if the weights do not say theirs.
        classes: see `rtj.labels.class_names`.

    Raises:
        ConfigError: not exactly one source, an unknown model, no model given.
        CheckpointError: see `load_weights`.
    """
    if bool(weights) == bool(checkpoint):
        raise ConfigError("give exactly one of --weights and --checkpoint")
    if checkpoint:
        return _from_run(Path(checkpoint), model, classes)
    return _from_file(weights, model, classes)


def _from_run(path: Path, name: str, classes: str) -> Network:
    if not path.is_dir() or not is_run_folder(path):
        raise CheckpointError(f"--checkpoint={path} holds no checkpoint of an rtj run")
    config = read_config(path)
    if config is None:
        raise CheckpointError(
            f"--checkpoint={path}: there is no config.json of the run; allowed: its "
            "workdir, or the folder `checkpoints` inside it"
        )
    if name and name != config.model.name:
        raise ConfigError(
            f"--model={name}, but {str(path)!r} holds a {config.model.name}"
        )
    file = read_weights(path)
    model = make_model(config, _class_count(file, config.model.name, About()))
    names, names_from = class_names(model.num_classes, classes=classes, config=config)
    return Network(
        name=config.model.name,
        model=model,
        variables=fit_weights(model, file, name=config.model.name),
        preprocess=run_preprocess(config),
        preprocess_from="the run's config",
        class_names=names,
        class_names_from=names_from,
    )


def _from_file(weights: str, name: str, classes: str) -> Network:
    file = read_weights(weights)
    about = parse(file.metadata, file.source)
    if not name and not about.model:
        raise ConfigError(
            f"--model is missing, and weights {file.source!r} do not say what they are"
        )
    options = about.options if name in ("", about.model) else {}
    name = name or str(about.model)
    create_model(name)  # an unknown name before anything else
    count = _class_count(file, name, about)
    model = _build(name, dict(options) | {"num_classes": count}, file.source)
    names, names_from = class_names(count, classes=classes, about=about)
    own = about.preprocess
    return Network(
        name=name,
        model=model,
        variables=fit_weights(model, file, name=name),
        preprocess=own or paper(model.native_size),
        preprocess_from="the weights' metadata" if own else "the paper, section 2.1",
        class_names=names,
        class_names_from=names_from,
    )


def _build(name: str, options: dict[str, Any], source: str) -> nn.Module:
    """The network that a file says it is of; CheckpointError if there can be none."""
    try:
        model = create_model(name, **options)
        variable_shapes(model)
    except ConfigError:
        raise
    except Exception as error:  # whatever a network makes of other types
        raise CheckpointError(
            f"the metadata of {source!r} is wrong: there is no {name} with {options}: "
            f"{error}"
        ) from error
    return model


def _class_count(file: WeightFile, name: str, about: About) -> int:
    """The classes of the file's head, less TensorFlow's background class."""
    count = file_classes(file, name)
    if count is None:
        raise CheckpointError(
            f"weights {file.source!r} hold no classifier of {name}: headless weights, "
            "or those of another network"
        )
    return 1000 if count == 1001 and about.num_classes != 1001 else count
