"""What ILSVRC-2012 must hold, and what a copy of it lacks.

Counts are those of the challenge (Russakovsky et al. 2015, arXiv 1409.0575, table 2):
1,281,167 images to train on, 732 to 1,300 a class, and 50 a class to validate on. The
classes of the validation images, by name, are in TFDS's imagenet2012.
"""

import functools
import importlib.resources
import re
from collections.abc import Sequence

import numpy as np

from rtj.labels import imagenet_ids

TRAIN = "train"
VALIDATION = "validation"
IMAGES = {TRAIN: 1_281_167, VALIDATION: 50_000}
PER_CLASS = {TRAIN: (732, 1_300), VALIDATION: (50, 50)}
FIX = (
    "unpack ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar again, check their MD5 "
    "sums, and prepare the data set anew"
)
_NAMED = 10
_TRAIN_FILE = re.compile(r"(n\d{8})_\d+(\.\w+)?")
_VALIDATION_FILE = re.compile(r"ILSVRC2012_val_(\d{8})(\.\w+)?")


def problems_of_counts(split: str, counts: Sequence[int] | np.ndarray) -> list[str]:
    """What is wrong with the number of images of each class.

    Args:
        split: 'train' or 'validation'; others have no fixed counts.
        counts: 1,000 numbers.
    """
    if split not in IMAGES:
        return []
    found, wanted = int(np.sum(counts)), IMAGES[split]
    problems = []
    if found != wanted:
        which = "fewer" if found < wanted else "more"
        problems.append(
            f"{split} has {found:,} images, {abs(found - wanted):,} {which} than "
            f"ImageNet's {wanted:,}"
        )
    low, high = PER_CLASS[split]
    allowed = f"{low}" if low == high else f"{low} to {high}"
    outside = [
        f"{name} has {count}"
        for name, count in zip(imagenet_ids(), counts, strict=True)
        if not low <= count <= high
    ]
    if outside:
        problems.append(
            f"{split} must have {allowed} images a class: {name_some(outside)}"
        )
    return problems


class NameCheck:
    """Finds images in a wrong class, and which of the validation images are missing.

    Names of files that are not ImageNet's say nothing.
    """

    def __init__(self, split: str) -> None:
        self._split = split
        self._misplaced: list[str] = []
        self._seen: set[int] = set()

    def add(self, label: int, file: str) -> None:
        """Notes an image: `file` is its name without folders."""
        right = self._class_of(file)
        if right is None:
            return
        names = imagenet_ids()
        found = names[label] if 0 <= label < len(names) else str(label)
        if found != right:
            self._misplaced.append(f"{file} is in {found} and belongs in {right}")

    def _class_of(self, file: str) -> str | None:
        """The WordNet id of an image, None if its name is another."""
        if self._split == TRAIN:
            match = _TRAIN_FILE.fullmatch(file)
            return match[1] if match else None
        match = _VALIDATION_FILE.fullmatch(file)
        if not match or not 1 <= int(match[1]) <= IMAGES[VALIDATION]:
            return None
        self._seen.add(int(match[1]))
        return _validation_labels()[int(match[1]) - 1]

    def problems(self) -> list[str]:
        """What is wrong, after all images."""
        found = []
        if self._misplaced:
            found.append(
                f"{self._split} has {len(self._misplaced):,} images in a wrong class: "
                f"{name_some(self._misplaced)}"
            )
        if self._seen:  # of the validation set
            numbers = range(1, IMAGES[VALIDATION] + 1)
            missing = [n for n in numbers if n not in self._seen]
            if missing:
                names = [f"ILSVRC2012_val_{number:08d}" for number in missing]
                found.append(f"{self._split} lacks {name_some(names)}")
        return found


def name_some(names: Sequence[str]) -> str:
    """The first ten, and how many more there are."""
    more = len(names) - _NAMED
    text = ", ".join(names[:_NAMED])
    return f"{text} and {more:,} more" if more > 0 else text


@functools.cache
def _validation_labels() -> tuple[str, ...]:
    root = importlib.resources.files("tensorflow_datasets")
    path = root / "datasets" / "imagenet2012" / "validation_labels.txt"
    return tuple(path.read_text().split())
