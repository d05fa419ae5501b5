"""Opens a data set by name.

`digits` (built in), `imagenet` (TFDS imagenet2012), `synthetic`, or `tfds:NAME` for
any image classification data set of TFDS.
"""

import difflib

from rtj.data import tfds_source
from rtj.data.examples import Example, Source
from rtj.data.memory import ArraySource, SyntheticSource, synthetic_label
from rtj.data.tfds_source import TfdsSource
from rtj.errors import DataError

__all__ = [
    "ArraySource",
    "Example",
    "Source",
    "SyntheticSource",
    "TfdsSource",
    "eval_split",
    "is_prepared",
    "open_source",
    "resolve_auto",
    "synthetic_label",
]

NAMES = ("digits", "imagenet", "synthetic")
_TFDS_NAMES = {"digits": "rtj_digits", "imagenet": "imagenet2012"}
_SYNTHETIC_SPLITS = ("train", "validation", "test")


def _tfds_name(name: str) -> str | None:
    """The TFDS name behind `name`, None for synthetic data, DataError if unknown."""
    if name.startswith("tfds:"):
        return name.removeprefix("tfds:")
    if name in NAMES:
        return _TFDS_NAMES.get(name)
    near = difflib.get_close_matches(name, NAMES, n=1)
    raise DataError(
        f"data set {name!r}: allowed are {', '.join(NAMES)} and tfds:NAME"
        + (f"; did you mean {near[0]}?" if near else "")
    )


def is_prepared(name: str, data_dir: str = "") -> bool:
    """Whether a finished copy, in any file format, lies under the TFDS data dir.

    Synthetic data always is. `digits` need not be: `open_source` prepares it.
    """
    tfds_name = _tfds_name(name)
    return tfds_name is None or bool(tfds_source.find_prepared(tfds_name, data_dir))


def resolve_auto(data_dir: str = "") -> str:
    """The data set that `data=auto` means: 'imagenet' if prepared, else 'digits'."""
    return "imagenet" if is_prepared("imagenet", data_dir) else "digits"


def eval_split(name: str, data_dir: str = "") -> str:
    """The split to evaluate on: labelled, and not trained on.

    For `tfds:NAME` it is 'validation' where there is one (test splits may have no
    labels), else 'test'; the data set must be prepared.
    """
    if name == "digits":
        return "test"
    tfds_name = _tfds_name(name)
    if name == "imagenet" or tfds_name is None:
        return "validation"
    splits = list(tfds_source.open_builder(tfds_name, data_dir).info.splits)
    for split in ("validation", "test"):
        if split in splits:
            return split
    raise DataError(
        f"{name}: no split 'validation' or 'test' among {', '.join(splits)}; name one"
    )


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
      name: 'digits', 'imagenet', 'synthetic' or 'tfds:NAME[/CONFIG][:VERSION]'.
        'digits' is prepared on first use.
      split: 'train', 'validation', 'test', or for TFDS any split string.
      data_dir: the TFDS data dir; '' means $TFDS_DATA_DIR or TFDS's default.
      image_size, num_classes, length: of synthetic data; others have their own.

    Raises:
      DataError: unknown name or split, data set not prepared or without random
        access; the message says what is allowed or which command helps.
    """
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
