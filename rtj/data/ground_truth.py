"""Labels of a flat folder of images, from a file that lies beside or inside it.

ImageNet's validation images come unpacked into one folder. What says their classes:

| file | content |
|---|---|
| `LOC_val_solution.csv` (Kaggle) | `ImageId,PredictionString`, which starts with a
  WordNet id |
| `val.txt`, `val_labels.txt` | lines `FILENAME LABEL`, or one class name a line in the
  sorted order of the files |
| `imagenet_2012_validation_synset_labels.txt` (TensorFlow) | one class name a line |
| `ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt` | one ILSVRC2012
  id a line, which `meta.mat` beside it turns into WordNet ids |

A LABEL is the name of a class folder of train (without spaces) or its number from 0 in
their sorted order: numbers only if some label of the file is no class name. A FILENAME
may lack its suffix and may have folders before it.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from rtj.data.on_disk import same_split
from rtj.errors import DataError

_DEVKIT = "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"
_TENSORFLOW = "imagenet_2012_validation_synset_labels.txt"
_WHOLE = re.compile(r"-?\d{1,9}")

# By file name, or one a file in the order of the files.
_Labels = dict[str, str] | list[str]


def file_names(split: str) -> list[str]:
    """The ground-truth files of a split, the first that is there being read."""
    names = same_split(split)
    found = [f"LOC_{name}_solution.csv" for name in names]
    found += [f"{name}{end}.txt" for end in ("", "_labels") for name in names]
    return found + ([_TENSORFLOW, _DEVKIT] if "val" in names else [])


def read_labels(
    root: Path, split: str, files: Sequence[str], class_names: Sequence[str]
) -> np.ndarray:
    """Class numbers of a flat split's images: int32 (n,), in the order of `files`.

    Args:
        root: the folder that holds the folder `split`; files beside it come first.
        files: names of the images, sorted.
        class_names: sorted.

    Raises:
        DataError: no ground truth, one that cannot be read, or one whose count, names
            or labels do not fit.
    """
    looked_for = file_names(split)
    for folder in (root, root / split):
        for path in (folder / name for name in looked_for):
            if path.is_file():
                labels = _in_order(path, _read(path, class_names), files)
                return _numbers(path, labels, files, class_names)
    raise DataError(
        f"{root / split} holds images but no class folders, and nothing says their "
        f"classes: put one of {', '.join(looked_for)} into {root}"
    )


def _read(path: Path, class_names: Sequence[str]) -> _Labels:
    try:
        if path.suffix == ".csv":
            return _read_kaggle(path)
        text = path.read_text("utf-8-sig").strip()
        lines = [line.strip() for line in text.split("\n")]
        if path.name == PurePosixPath(_DEVKIT).name:
            return _read_devkit(path, lines)
        return _read_text(path, lines, class_names)
    except (OSError, UnicodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {error}; copy it again") from error


def _read_kaggle(path: Path) -> _Labels:
    columns = ["ImageId", "PredictionString"]
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    if not rows or rows[0] != columns:
        raise DataError(f"{path}: its first line must be {','.join(columns)}")
    pairs = []
    for number, row in enumerate(rows[1:], 2):
        words = row[1].split() if len(row) == 2 else []
        if not words:
            raise DataError(f"{path}, line {number}: there is no label; copy it again")
        pairs.append((row[0], words[0]))
    return _by_file(path, pairs)


def _read_text(path: Path, lines: list[str], class_names: Sequence[str]) -> _Labels:
    known = set(class_names)
    if known.issuperset(lines):
        return lines
    single = [number for number, line in enumerate(lines) if len(line.split()) < 2]
    wrong = [number for number in single if lines[number] not in known] or single
    if wrong:
        raise DataError(
            f"{path}, line {wrong[0] + 1}: {lines[wrong[0]]!r} is neither FILENAME "
            "LABEL nor, as all other lines must be then, the name of a class folder of "
            "train"
        )
    pairs = (line.rsplit(None, 1) for line in lines)
    return _by_file(path, ((name.rstrip(), label) for name, label in pairs))


def _read_devkit(path: Path, lines: list[str]) -> _Labels:
    """ILSVRC2012 ids count from 1, in an order that is not that of the WordNet ids."""
    from scipy.io import loadmat

    meta = path.with_name("meta.mat")
    try:
        synsets = np.atleast_1d(loadmat(meta, squeeze_me=True)["synsets"])
        # Those with children are inner nodes of WordNet, numbered after the classes.
        wordnet = {
            str(int(row["ILSVRC2012_ID"])): str(row["WNID"])
            for row in synsets
            if int(row["num_children"]) == 0
        }
    except Exception as error:
        raise DataError(
            f"{meta} cannot be read: {error!r}; unpack ILSVRC2012_devkit_t12.tar.gz "
            "again"
        ) from error
    for number, line in enumerate(lines, 1):
        if line not in wordnet:
            raise DataError(
                f"{path}, line {number}: {line!r} is out of range; allowed are the "
                f"ids 1 to {len(wordnet)} of {meta.name}"
            )
    return [wordnet[line] for line in lines]


def _by_file(path: Path, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for name, label in pairs:
        name = name.rsplit("/", 1)[-1]
        if name in labels:
            raise DataError(f"{path}: {name} has two lines; remove one")
        labels[name] = label
    return labels


def _in_order(path: Path, labels: _Labels, files: Sequence[str]) -> list[str]:
    """One label a file, in the order of the files."""
    if len(labels) != len(files):
        raise DataError(
            f"{path} has {len(labels)} labels for {len(files)} images; unpack the "
            "images again or get the file that belongs to them"
        )
    if isinstance(labels, list):
        return labels
    found = []
    for file in files:
        name = file if file in labels else file.rsplit(".", 1)[0]
        if name not in labels:
            raise DataError(
                f"{path} has no line for {file}; get the file that belongs to these "
                "images"
            )
        found.append(labels.pop(name))
    return found


def _numbers(
    path: Path, labels: list[str], files: Sequence[str], class_names: Sequence[str]
) -> np.ndarray:
    known = {name: number for number, name in enumerate(class_names)}
    if not known.keys() >= set(labels) and all(map(_WHOLE.fullmatch, labels)):
        known = {label: int(label) for label in set(labels)}
    for label, file in zip(labels, files, strict=True):
        if not 0 <= known.get(label, -1) < len(class_names):
            raise DataError(
                f"{path}: the label {label!r} of {file} is out of range; allowed are "
                f"the class folders of train, {class_names[0]} to {class_names[-1]}, "
                f"or their numbers 0 to {len(class_names) - 1}"
            )
    return np.array([known[label] for label in labels], np.int32)
