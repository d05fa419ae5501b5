"""dataset_info.json of a prepared TFDS data set, as plain JSON."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtj.errors import DataError

FILE = "dataset_info.json"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def read_info(folder: Path) -> dict[str, Any]:
    """The content; DataError if it is missing or not that of a data set."""
    path = folder / FILE
    try:
        info = json.loads(path.read_text())
        info = {key: info[key] for key in ("name", "version", "splits")} | info
        # A copy is written into folders of these names.
        for key, form in (("name", _NAME), ("version", _VERSION)):
            if not form.fullmatch(info[key]):
                raise ValueError(f"{key} is {info[key]!r}")
        return info
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
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
