"""Whether a data set holds what it should: counts, classes, images that decode."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rtj.data import sources
from rtj.data.examples import Listed, Source
from rtj.data.image_limits import open_pillow
from rtj.data.prepare.image_progress import ImageProgress
from rtj.data.prepare.image_record import base_name
from rtj.data.prepare.imagenet_check import (
    FIX,
    IMAGES,
    TRAIN,
    VALIDATION,
    NameCheck,
    name_some,
    problems_of_counts,
)
from rtj.data.prepare.ordered_map import ordered_map
from rtj.errors import DataError
from rtj.labels import imagenet_ids


@dataclass
class SplitReport:
    """What a split holds. `counts` is (classes,); `problems` are sentences."""

    counts: np.ndarray
    unlabelled: int = 0
    undecodable: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def examples(self) -> int:
        return int(self.counts.sum()) + self.unlabelled

    def empty_classes(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that have no example."""
        return [names[int(label)] for label in np.flatnonzero(self.counts == 0)]


@dataclass
class Report:
    """What a data set holds, by split; `fix` is what to do about its problems."""

    name: str
    class_names: list[str]
    splits: dict[str, SplitReport]
    problems: list[str]
    fix: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "splits": {
                split: {
                    "examples": part.examples,
                    "unlabelled": part.unlabelled,
                    "classes": len(part.counts),
                    "min_per_class": int(part.counts.min()),
                    "max_per_class": int(part.counts.max()),
                    "empty_classes": part.empty_classes(self.class_names),
                    "undecodable": part.undecodable,
                }
                for split, part in self.splits.items()
            },
            "problems": self.problems,
        }


def verify(
    name: str,
    data_dir: str = "",
    splits: Sequence[str] = (),
    *,
    decode: bool = False,
    workers: int = 1,
) -> Report:
    """Counts the examples of every split and class, and says what is wrong.

    ImageNet (`imagenet`, or 1,000 classes that are its WordNet ids) must have its
    images, see `imagenet_check`. Any other set must have an example of each class to
    train on. Labels must be within the classes; only a test split may have none (-1).

    Args:
        name: a data set, as `sources.open_source` takes it.
        splits: () for all.
        decode: decode each image.
        workers: threads.

    Raises:
        DataError: the data set, a split or an example cannot be opened or read.
    """
    opened = {
        split: sources.open_source(name, split, data_dir=data_dir)
        for split in splits or sources.splits(name, data_dir)
    }
    if not opened:
        raise DataError(f"{name} has no splits")
    first = next(iter(opened.values()))
    names = list(getattr(first, "class_names", map(str, range(first.num_classes))))
    is_imagenet = name == "imagenet" or tuple(names) == imagenet_ids()
    reports, problems = {}, []
    for split, source in opened.items():
        standard = VALIDATION if split == "val" else split
        check = NameCheck(standard) if is_imagenet and standard in IMAGES else None
        reports[split] = part = _scan(split, source, check, decode, workers)
        if check is not None:
            part.problems += problems_of_counts(standard, part.counts)
            part.problems += check.problems()
        elif split == TRAIN and (empty := part.empty_classes(names)):
            part.problems.append(f"{split} has no image of {name_some(empty)}")
        problems += part.problems
    if is_imagenet and not splits:
        there = {VALIDATION if split == "val" else split for split in opened}
        problems += [f"there is no split {s!r}" for s in IMAGES if s not in there]
    fix = FIX if is_imagenet else "restore what is missing, remove what is wrong"
    return Report(name, names, reports, problems, fix)


def _scan(
    split: str, source: Source, check: NameCheck | None, decode: bool, workers: int
) -> SplitReport:
    """Counts, images that do not decode, and labels that are out of range."""
    report = SplitReport(np.zeros(source.num_classes, np.int64))
    outside = []
    progress = ImageProgress(f"verify {split}", len(source))
    for label, example_id, good in _rows(source, decode, workers):
        if 0 <= label < source.num_classes:
            report.counts[label] += 1
        else:
            report.unlabelled += 1
            if not (label == -1 and split == "test"):
                outside.append(f"{example_id} has {label}")
        if not good:
            report.undecodable.append(example_id)
        if check is not None:
            check.add(label, base_name(example_id))
        progress.add()
    progress.close()
    if not len(source):
        report.problems.append(f"{split} is empty")
    if outside:
        report.problems.append(
            f"{split} has {len(outside):,} labels that are not 0 to "
            f"{source.num_classes - 1}: {name_some(outside)}"
        )
    if report.undecodable:
        report.problems.append(
            f"{split} has {len(report.undecodable):,} images that cannot be decoded: "
            f"{name_some(report.undecodable)}"
        )
    return report


def _rows(
    source: Source, decode: bool, workers: int
) -> Iterator[tuple[int, str, bool]]:
    """Label, id, and whether the image decodes (True if it is not asked)."""
    indices = range(len(source))
    if isinstance(source, Listed) and not decode:
        return ((*source.label_and_id(index), True) for index in indices)

    def read(index: int) -> tuple[int, str, bool]:
        example = source[index]
        good = not decode or _decodes(example["image"])
        return example["label"], example["id"], good

    return ordered_map(read, indices, workers)


def _decodes(image: bytes | np.ndarray) -> bool:
    if not isinstance(image, bytes):
        return True
    try:
        with open_pillow(image) as opened:
            # A JPEG is read to its end, but only 1/64 of its pixels are computed.
            opened.draft(None, (1, 1))
            opened.load()
    except Exception:
        return False
    return True
