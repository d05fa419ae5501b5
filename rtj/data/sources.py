"""Opens a data set by name.

`digits` (built in), `imagenet` (TFDS imagenet2012), `synthetic`, `tfds:NAME` for any
image classification data set of TFDS, or your own images as `folder:PATH` (a folder a
class) and `tar:PATH` (WebDataset).
"""

import difflib
from collections.abc import Callable
from typing import NamedTuple

from rtj.data import folder_source, tar_source, tfds_source
from rtj.data.examples import Example, Source
from rtj.data.folder_source import FolderSource
from rtj.data.memory import ArraySource, SyntheticSource, synthetic_label
from rtj.data.on_disk import held_out
from rtj.data.subset import Subset, parse_split
from rtj.data.tar_source import TarSource
from rtj.data.tfds_source import TfdsSource
from rtj.errors import DataError

__all__ = [
    "ArraySource",
    "Example",
    "FolderSource",
    "Source",
    "SyntheticSource",
    "TarSource",
    "TfdsSource",
    "eval_split",
    "is_prepared",
    "open_source",
    "resolve_auto",
    "splits",
    "synthetic_label",
]

NAMES = ("digits", "imagenet", "synthetic")
_TFDS_NAMES = {"digits": "rtj_digits", "imagenet": "imagenet2012"}
_SYNTHETIC_SPLITS = ("train", "validation", "test")


class _Layout(NamedTuple):
    """How data lie under a PATH: `splits(path, name)`, `open(path, split, name)`."""

    splits: Callable[[str, str], list[str]]
    open: Callable[[str, str, str], Source]


_LAYOUTS = {
    "folder": _Layout(folder_source.splits, FolderSource),
    "tar": _Layout(tar_source.splits, TarSource),
}


def _on_disk(name: str) -> tuple[_Layout, str] | None:
    """The layout and PATH of `folder:PATH` or `tar:PATH`, None for other names."""
    kind, _, path = name.partition(":")
    return (_LAYOUTS[kind], path) if kind in _LAYOUTS and path else None


def _tfds_name(name: str) -> str | None:
    """The TFDS name behind `name`, None for synthetic data, DataError if unknown."""
    if name.startswith("tfds:"):
        return name.removeprefix("tfds:")
    if name in NAMES:
        return _TFDS_NAMES.get(name)
    near = difflib.get_close_matches(name, NAMES, n=1)
    raise DataError(
        f"data set {name!r}: allowed are {', '.join(NAMES)}, tfds:NAME, folder:PATH "
        "and tar:PATH" + (f"; did you mean {near[0]}?" if near else "")
    )


def is_prepared(name: str, data_dir: str = "") -> bool:
    """Whether a finished copy, in any file format, lies under the TFDS data dir.

    Synthetic data always is. `digits` need not be: `open_source` prepares it. A PATH is
    if it has a split 'train'.
    """
    if on_disk := _on_disk(name):
        layout, path = on_disk
        try:
            return "train" in layout.splits(path, name)
        except DataError:
            return False
    tfds_name = _tfds_name(name)
    return tfds_name is None or bool(tfds_source.find_prepared(tfds_name, data_dir))


def resolve_auto(data_dir: str = "") -> str:
    """The data set that `data=auto` means: 'imagenet' if prepared, else 'digits'."""
    return "imagenet" if is_prepared("imagenet", data_dir) else "digits"


def splits(name: str, data_dir: str = "") -> list[str]:
    """The names of a data set's splits; DataError as from `open_source`."""
    if on_disk := _on_disk(name):
        layout, path = on_disk
        return layout.splits(path, name)
    tfds_name = _tfds_name(name)
    if tfds_name is None:
        return list(_SYNTHETIC_SPLITS)
    if name == "digits":
        from rtj.data import digits

        digits.prepare(data_dir)
    return list(tfds_source.open_builder(tfds_name, data_dir).info.splits)


def eval_split(name: str, data_dir: str = "") -> str:
    """The split to evaluate on: labelled, and not trained on.

    For `tfds:NAME`, `folder:PATH` and `tar:PATH` it is 'validation' (or 'val') where
    there is one (test splits may have no labels), else 'test'; the data set must be
    prepared.
    """
    if on_disk := _on_disk(name):
        layout, path = on_disk
        return held_out(name, layout.splits(path, name))
    if name == "digits":
        return "test"
    tfds_name = _tfds_name(name)
    if name == "imagenet" or tfds_name is None:
        return "validation"
    builder = tfds_source.open_builder(tfds_name, data_dir)
    return held_out(name, list(builder.info.splits))


def open_source(
    name: str,
    split: str,
    *,
    data_dir: str = "",
    image_size: int = 64,
    num_classes: int = 10,
    length: int = 1024,
) -> Source:
    """Opens one split of a data set.

    Args:
      name: 'digits', 'imagenet', 'synthetic', 'tfds:NAME[/CONFIG][:VERSION]',
        'folder:PATH' or 'tar:PATH'. 'digits' is prepared on first use; a relative
        PATH starts at the working directory.
      split: 'train', 'validation', 'test', or for TFDS any split string. A PATH takes
        the splits that it holds, and parts of them such as 'train[:10%]'.
      data_dir: the TFDS data dir; '' means $TFDS_DATA_DIR or TFDS's default.
      image_size, num_classes, length: of synthetic data; others have their own.

    Raises:
      DataError: unknown name or split, data set not prepared or without random
        access; the message says what is allowed or which command helps.
    """
    if on_disk := _on_disk(name):
        layout, path = on_disk
        split, part = parse_split(split, name)
        source = layout.open(path, split, name)
        return Subset(source, part) if part else source
    tfds_name = _tfds_name(name)
    if tfds_name is None:
        return _open_synthetic(split, image_size, num_classes, length)
    if name == "digits":
        from rtj.data import digits

        digits.prepare(data_dir)
    builder = tfds_source.open_builder(tfds_name, data_dir)
    return TfdsSource(builder, split, name)


def _open_synthetic(
    split: str, image_size: int, num_classes: int, length: int
) -> SyntheticSource:
    if split not in _SYNTHETIC_SPLITS:
        raise DataError(
            f"synthetic: there is no split {split!r}; allowed are "
            + ", ".join(_SYNTHETIC_SPLITS)
        )
    # Other splits hold other images: the numbers go on where the last one ends.
    offset = _SYNTHETIC_SPLITS.index(split) * length
    return SyntheticSource(length, num_classes, image_size, offset=offset)
