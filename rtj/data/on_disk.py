"""What `folder:PATH` and `tar:PATH` share: image suffixes and the names of splits."""

import os
from collections.abc import Iterable
from pathlib import Path

from rtj.errors import DataError, nearest_first

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
HELD_OUT = ("validation", "val", "test")
_ALIASES = {"val": "validation", "validation": "val"}
_NAMED_IN_ERRORS = 5


def is_image(file_name: str) -> bool:
    """Whether a file's name ends as an image's does, in upper or lower case."""
    return file_name.lower().endswith(IMAGE_SUFFIXES)


def open_root(path: str, name: str) -> Path:
    """The absolute path of a data set's folder; `~` is the home folder.

    Raises DataError, with `name` for the data set, if there is no such folder.
    """
    root = Path(os.path.expanduser(path)).absolute()
    if not os.path.isdir(root):
        what = "is not a folder" if os.path.exists(root) else "does not exist"
        raise DataError(
            f"{name}: {root} {what}; give the folder that holds the splits, such as "
            "train and val"
        )
    return root


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the sub-folders and of the files in a folder, hidden ones left out.

    Sorted, so that no file system's own order is seen. A file that is named as an
    image is not asked whether it is a folder: where images are links, or the file
    system keeps no types in its folders, that would be a `stat` for each.
    """
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not is_image(entry.name) and entry.is_dir():
                    folders.append(entry.name)
                else:
                    files.append(entry.name)
    except OSError as error:
        raise DataError(
            f"the folder {folder} cannot be listed: {error.strerror}; check its "
            "permissions"
        ) from error
    return sorted(folders), sorted(files)


def same_split(split: str) -> list[str]:
    """The names a split may go by, its own first: `val` is `validation`."""
    return [split] + ([_ALIASES[split]] if split in _ALIASES else [])


def find_split(split: str, there: Iterable[str], root: Path, name: str) -> str:
    """Under which of the names in `there` a split goes, or DataError."""
    there = list(there)
    for known in same_split(split):
        if known in there:
            return known
    raise DataError(
        f"{name}: there is no split {split!r} under {root}; "
        + (f"there are, nearest first: {some(split, there)}" if there else "none is")
        + "; a split is a folder such as train or val, or its shards"
    )


def held_out(name: str, splits: Iterable[str]) -> str:
    """The split to evaluate on, 'validation' (or 'val') before 'test'; or DataError."""
    splits = list(splits)
    for split in HELD_OUT:
        if split in splits:
            return split
    raise DataError(
        f"{name}: no split {', '.join(HELD_OUT)} among {', '.join(splits)}; name one "
        "with data.eval_split"
    )


def some(found: str, names: Iterable[str]) -> str:
    """The names nearest to `found`, and how many more there are."""
    near = nearest_first(found, names)
    more = len(near) - _NAMED_IN_ERRORS
    text = ", ".join(near[:_NAMED_IN_ERRORS])
    return f"{text} and {more} more" if more > 0 else text
