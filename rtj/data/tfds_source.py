"""TFDS data sets as sources, without TensorFlow: ArrayRecord files, encoded images.

Prepared data sets are found by looking at the directories, so that opening one
needs neither the builder's code nor the network.
"""

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from etils import epath

from rtj.data.examples import Example
from rtj.errors import DataError

_NAME = re.compile(r"(\w+)(?:/([^:/]+))?(?::(\d+\.\d+\.\d+))?")
VERSION = re.compile(r"\d+\.\d+\.\d+")
_ID_FEATURES = ("id", "file_name")


@dataclass(frozen=True)
class TfdsName:
    """`NAME[/CONFIG][:VERSION]`, parsed."""

    name: str
    config: str | None
    version: str | None


def parse_name(text: str) -> TfdsName:
    """Parses `NAME[/CONFIG][:VERSION]` or raises DataError."""
    match = _NAME.fullmatch(text)
    if not match:
        raise DataError(f"TFDS name {text!r}: allowed is NAME[/CONFIG][:VERSION]")
    return TfdsName(*match.groups())


def tfds_dir(data_dir: str = "") -> str:
    """The TFDS data dir: `data_dir`, else $TFDS_DATA_DIR, else TFDS's default."""
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return os.path.expanduser(data_dir or default)


def is_finished(folder: Any) -> bool:
    """Whether a folder (a path) is a finished version of a data set.

    TFDS prepares under another name and renames at the end, so a folder that is named
    as a version and holds both metadata files is complete.
    """
    return bool(VERSION.fullmatch(folder.name)) and all(
        (folder / name).exists() for name in ("dataset_info.json", "features.json")
    )


def find_prepared(text: str, data_dir: str = "") -> list[epath.Path]:
    """Version directories of finished copies of a data set, newest first."""
    wanted = parse_name(text)
    root = epath.Path(tfds_dir(data_dir)) / wanted.name
    parents = [root / wanted.config] if wanted.config else [root, *_subdirs(root)]
    found = [
        path
        for parent in parents
        for path in _subdirs(parent)
        if wanted.version in (None, path.name) and is_finished(path)
    ]
    configs = sorted({path.parent.name for path in found if path.parent != root})
    if len(configs) > 1 and not wanted.config:
        raise DataError(
            f"tfds:{text}: several configs are prepared under {root}; name one of: "
            + ", ".join(f"tfds:{wanted.name}/{config}" for config in configs)
        )
    return sorted(found, key=lambda path: _version_key(path.name), reverse=True)


def _version_key(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _subdirs(path: epath.Path) -> list[epath.Path]:
    if not path.is_dir():
        return []
    return [child for child in path.iterdir() if child.is_dir()]


def open_builder(text: str, data_dir: str = "") -> Any:
    """The read-only TFDS builder of the newest prepared copy with random access.

    Raises DataError: not prepared, or prepared as TFRecord only.
    """
    import tensorflow_datasets as tfds

    directories = find_prepared(text, data_dir)
    if not directories:
        raise _not_prepared(text, data_dir)
    for directory in directories:
        builder = tfds.builder_from_directory(directory)
        formats = {form.value for form in builder.info.available_file_formats()}
        if "array_record" in formats:
            return builder
    newest = directories[0]
    raise DataError(
        f"tfds:{text}: the copy in {newest} has no ArrayRecord files, which random "
        "access needs. Add them (TensorFlow is not needed): python -m rtj.data.prepare "
        f"convert tfrecord:{newest}"
    )


def _not_prepared(text: str, data_dir: str) -> DataError:
    import tensorflow_datasets as tfds

    name = parse_name(text).name
    root = tfds_dir(data_dir)
    known = tfds.list_builders(with_community_datasets=False)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        return DataError(
            f"tfds:{text}: no such data set is prepared under {root}, and TFDS knows "
            f"none of this name" + (f"; nearest: {', '.join(near)}" if near else "")
        )
    return DataError(
        f"tfds:{text} is not prepared: searched {root}/{name} (set data_dir or "
        f"TFDS_DATA_DIR). Prepare it with (needs TensorFlow): tfds build {name} "
        f"--file_format=array_record --data_dir={root} ; or from your own copy in "
        "folders (TensorFlow is not needed): python -m rtj.data.prepare convert "
        f"folder:PATH --name={name} --data_dir={root}"
    )


def open_split(builder: Any, split: str, name: str, encoded: Sequence[str]) -> Any:
    """Random access to a split's records, the features `encoded` as their bytes.

    Raises DataError, with `name` for the data set, if there is no such split.
    """
    import tensorflow_datasets as tfds

    decoders = {feature: tfds.decode.SkipDecoding() for feature in encoded}
    try:
        return builder.as_data_source(split, decoders=decoders)
    except Exception as error:
        raise _split_error(name, split, list(builder.info.splits), error) from error


class TfdsSource:
    """One split of a prepared TFDS data set; images stay encoded bytes.

    Reading is thread-safe. The id is the feature 'id' or 'file_name' where there is
    one, else 'SPLIT:INDEX'.

    Args:
      builder: of a prepared data set with ArrayRecord files (`open_builder`).
      split: a split name or TFDS split string, such as 'train' or 'train[:10%]'.
      name: of the source, for messages.

    Raises:
      DataError: no such split, or no 'image' and 'label' features.
    """

    def __init__(self, builder: Any, split: str, name: str):
        features = dict(builder.info.features.items())
        missing = [key for key in ("image", "label") if key not in features]
        if missing or not hasattr(features["label"], "num_classes"):
            raise DataError(
                f"{name}: an image classification data set has the features 'image' "
                f"and 'label' (a ClassLabel); this one has {sorted(features)}"
            )
        self.name = name
        self.num_classes = int(features["label"].num_classes)
        self.class_names = list(features["label"].names)
        self._split = split
        self._id = next((key for key in _ID_FEATURES if key in features), None)
        self._data = open_split(builder, split, name, ["image"])

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int, /) -> Example:
        record = self._data[index]
        name = f"{self._split}:{index}"
        if self._id:
            value = record[self._id]
            name = value.decode() if isinstance(value, bytes) else str(value)
        return {"image": record["image"], "label": int(record["label"]), "id": name}


def _split_error(
    name: str, split: str, splits: list[str], error: Exception
) -> DataError:
    if re.split(r"[\[+]", split)[0].strip() in splits:
        return DataError(f"{name}: split {split!r} cannot be opened: {error}")
    return DataError(
        f"{name}: there is no split {split!r}; allowed are {', '.join(splits)} and "
        f"parts of them such as {splits[0]}[:10%]"
    )
