"""Names of classes, from whatever knows them without a network."""

import importlib.resources
import json
from pathlib import Path

from ml_collections import ConfigDict

from rtj.data import folder_source, tfds_source
from rtj.errors import ConfigError, DataError
from rtj.weights.metadata import About

IMAGENET = "imagenet"


def class_names(
    count: int,
    *,
    classes: str = "",
    about: About | None = None,
    config: ConfigDict | None = None,
) -> tuple[tuple[str, ...], str]:
    """The names of `count` classes and where they come from; () if none are known.

    The first of these that has any: `classes`, the weights' metadata, the data set
    of the run.

    Args:
        classes: a file with one name a line, or a JSON list; or `imagenet` for
            ILSVRC-2012's WordNet ids, which TFDS ships. (English names are in no
            maintained package that rtj depends on.)
        about: the weights' metadata.
        config: of the run.

    Raises:
        ConfigError: `classes` cannot be read or has another number of names.
    """
    if classes:
        return read_names(classes, count), f"--classes={classes}"
    if about and len(about.label_names) == count:
        return about.label_names, "the weights' metadata"
    names = _data_set_names(about, config)
    if len(names) == count:
        return names, "the data set of the weights"
    return (), "none known: numbers of the classes"


def read_names(classes: str, count: int) -> tuple[str, ...]:
    """The names in a file, see `class_names`; ConfigError unless there are `count`."""
    names = imagenet_ids() if classes == IMAGENET else _read(Path(classes))
    if len(names) != count:
        raise ConfigError(
            f"--classes={classes} has {len(names)} names, the network {count} classes"
        )
    return names


def imagenet_ids() -> tuple[str, ...]:
    """ILSVRC-2012's 1000 WordNet ids in the order of the classes."""
    root = importlib.resources.files("tensorflow_datasets")
    text = (root / "datasets" / "imagenet2012" / "labels.txt").read_text()
    return tuple(text.split())


def _read(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text()
        if path.suffix == ".json":
            names = json.loads(text)
            if not isinstance(names, list):
                raise ValueError("not a JSON list")
            return tuple(str(name) for name in names)
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"--classes={path} cannot be read: {error}; allowed: a file with one name "
            f"a line, a JSON list, or {IMAGENET}"
        ) from error


def _data_set_names(about: About | None, config: ConfigDict | None) -> tuple[str, ...]:
    if about and about.data_set == IMAGENET:
        return imagenet_ids()
    if config is None:
        return ()
    if config.data.name == IMAGENET:
        return imagenet_ids()
    kind, _, name = config.data.name.partition(":")
    try:
        if kind == "folder":
            return tuple(folder_source.class_names(name, config.data.name))
        if kind == "tfds":
            builder = tfds_source.open_builder(name, config.data.data_dir)
            return tuple(builder.info.features["label"].names)
    except DataError:
        pass  # weights may be used where their data set is not
    return ()
