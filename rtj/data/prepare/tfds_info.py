"""dataset_info.json of a prepared TFDS data set, as plain JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtj.errors import DataError

FILE = "dataset_info.json"


def read_info(folder: Path) -> dict[str, Any]:
    """The content; DataError if it is missing or not that of a data set."""
    path = folder / FILE
    try:
        info = json.loads(path.read_text())
        return {key: info[key] for key in ("name", "version", "splits")} | info
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"{folder} is not a prepared TFDS data set: {FILE} cannot be read "
            f"({error!r}); a data set is the folder of a version, such as "
            ".../imagenet2012/5.1.0"
        ) from error


def file_formats(info: Mapping[str, Any]) -> list[str]:
    """`tfrecord`, `array_record` and the like; the main one first."""
    # Early TFDS had one format and did not name it.
    main = info.get("fileFormat") or "tfrecord"
    return [main, *info.get("alternativeFileFormats", ())]


def has_array_record(folder: Path) -> bool:
    """Whether a prepared data set has ArrayRecord files; DataError if it is none."""
    return "array_record" in file_formats(read_info(folder))


def split_sizes(info: Mapping[str, Any]) -> dict[str, int]:
    """The number of examples of each split."""
    return {
        split["name"]: sum(map(int, split.get("shardLengths", ())))
        for split in info["splits"]
    }
