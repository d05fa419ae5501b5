"""Masks in folders, in either of two layouts.

    PATH/train/images/NAME.jpg        PATH/train/masks/NAME.png
    PATH/images/training/NAME.jpg     PATH/annotations/training/NAME.png

The first is any data set's: the numbers in a mask are classes, 255 does not count. The
classes are the lines of `PATH/classes.txt`; without that file they are called by their
numbers, and all of train's masks are looked at for the largest.

The second is ADE20K's (`ADEChallengeData2016`), with splits training and validation:
150 classes from 1 on, 0 does not count, names in `PATH/objectInfo150.txt`.
"""

from pathlib import Path

from rtj.data.on_disk import (
    HELD_OUT,
    find_split,
    is_image,
    list_folder,
    open_root,
)
from rtj.errors import DataError
from rtj.transfer.class_file import read_class_file
from rtj.transfer.examples import Size, file_size, read_file
from rtj.transfer.segmentation.masks import label_table
from rtj.transfer.segmentation.pairs import (
    Classes,
    PairSource,
    count_classes,
    plain_classes,
)

ADE20K_CLASSES = 150
_ADE20K_NAMES = "objectInfo150.txt"
_ADE20K_SPLITS = {"train": "training", "validation": "validation"}
_TRAIN = "train"


def splits(path: str, name: str) -> list[str]:
    """The splits under PATH among train, validation, val and test."""
    root = open_root(path, name)
    there = _ADE20K_SPLITS if _is_ade20k(root) else (_TRAIN, *HELD_OUT)
    return [split for split in there if _folders(root, split)[0].is_dir()]


def open_folder(path: str, split: str, name: str, num_classes: int = 0) -> PairSource:
    """The images and masks of one split.

    Args:
        path: PATH; relative to the working directory, or from `~`.
        split: one of `splits`; val and validation are the same.
        name: of the source, for messages.
        num_classes: of the first layout without `classes.txt`; 0 looks at the masks.

    Raises:
        DataError: no such folder or split, no image, no mask for any image, or a
            file of classes that makes no sense.
    """
    root = open_root(path, name)
    split = find_split(split, splits(path, name), root, name)
    pairs = FolderPairs(root, split, name)
    if _is_ade20k(root):
        return PairSource(pairs, ade20k_classes(root / _ADE20K_NAMES), name)
    file = root / "classes.txt"
    if file.is_file():
        return PairSource(pairs, plain_classes(read_class_file(file)), name)
    if not num_classes:
        trained = find_split(_TRAIN, splits(path, name), root, name)
        of = pairs if trained == split else FolderPairs(root, trained, name)
        num_classes = count_classes(of, f"{name}: {trained} (no classes.txt)")
    return PairSource(pairs, plain_classes([*map(str, range(num_classes))]), name)


def _is_ade20k(root: Path) -> bool:
    return (root / "annotations").is_dir() and (root / "images" / "training").is_dir()


def _folders(root: Path, split: str) -> tuple[Path, Path]:
    """Where a split's images and masks are."""
    if _is_ade20k(root):
        folder = _ADE20K_SPLITS[split]
        return root / "images" / folder, root / "annotations" / folder
    return root / split / "images", root / split / "masks"


def ade20k_classes(file: Path | None) -> Classes:
    """ADE20K's classes; without a file that names them they are '1' to '150'.

    Args:
        file: lines of columns with tabs between, the name last, under a heading.
    """
    names = [str(number) for number in range(1, ADE20K_CLASSES + 1)]
    if file is not None and file.is_file():
        lines = read_class_file(file)[1:]
        names = [line.split("\t")[-1].strip() for line in lines]
    if len(names) != ADE20K_CLASSES:
        raise DataError(f"{file}: {len(names)} names; allowed: {ADE20K_CLASSES}")
    return Classes(tuple(names), label_table(ADE20K_CLASSES, first=1))


class FolderPairs:
    """Encoded images and masks of one split; ids are images' paths below PATH.

    The folders are listed once, here. An image whose mask is missing is an example
    that cannot be used.
    """

    def __init__(self, root: Path, split: str, name: str) -> None:
        self._root = root
        self._images, self._masks = _folders(root, split)
        self._files = [file for file in list_folder(self._images)[1] if is_image(file)]
        masks = set(list_folder(self._masks)[1]) if self._masks.is_dir() else set()
        if not any(_mask_of(file) in masks for file in self._files):
            raise DataError(
                f"{name}: no image in {self._images} ({len(self._files)} images) has a "
                f"mask in {self._masks} ({len(masks)} files); allowed: NAME.jpg and "
                "NAME.png"
            )

    def __len__(self) -> int:
        return len(self._files)

    def _id(self, index: int) -> str:
        return (self._images / self._files[index]).relative_to(self._root).as_posix()

    def read(self, index: int, /) -> tuple[bytes, bytes, str]:
        """The image, the mask and the id."""
        mask, example_id = self.mask(index)
        path = self._images / self._files[index]
        return read_file(path, example_id, "image"), mask, example_id

    def mask(self, index: int, /) -> tuple[bytes, str]:
        """The mask and the id."""
        example_id = self._id(index)
        path = self._masks / _mask_of(self._files[index])
        return read_file(path, example_id, "mask"), example_id

    def size(self, index: int, /) -> Size:
        """(height, width) of the image."""
        return file_size(self._images / self._files[index], self._id(index))


def _mask_of(image: str) -> str:
    return f"{Path(image).stem}.png"
