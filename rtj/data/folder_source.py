"""Images in folders, as ImageNet is unpacked: `train/n01440764/*.JPEG`.

    PATH/train/CLASS/IMAGE
    PATH/val/CLASS/IMAGE      or flat: PATH/val/IMAGE, see `rtj.data.ground_truth`

Splits are the folders in PATH; `val` and `validation` are one name. The classes are
train's class folders in sorted order, for every split. An image is a file that ends in
.jpg, .jpeg, .png, .webp or .bmp, in upper or lower case; other files, hidden ones and
folders inside class folders are left out.
"""

import os

import numpy as np

from rtj.data import ground_truth
from rtj.data.examples import Example
from rtj.data.image_limits import read_image_file
from rtj.data.on_disk import (
    HELD_OUT,
    find_split,
    is_image,
    list_folder,
    open_root,
    some,
)
from rtj.data.packed_names import PackedNames
from rtj.errors import DataError

_TRAIN = "train"


def splits(path: str, name: str) -> list[str]:
    """Those of train, validation, val and test that PATH holds; DataError if no folder.

    A split of another name can be opened, but is not listed: a devkit's folder lies
    beside the splits as well.
    """
    folders = list_folder(open_root(path, name))[0]
    return [split for split in (_TRAIN, *HELD_OUT) if split in folders]


def class_names(path: str, name: str) -> list[str]:
    """The class folders of train, sorted; DataError if there are none."""
    root = open_root(path, name)
    train = root / find_split(_TRAIN, list_folder(root)[0], root, name)
    names = list_folder(train)[0]
    if not names:
        raise DataError(f"{name}: {train} holds no class folders; allowed: one a class")
    return names


class FolderSource:
    """One split of folders of images; items are the files' bytes, not decoded.

    The folders are listed once, here. In memory a file takes 12 bytes and its name
    without folders: 33 for ImageNet's train split, 43 MB in all. An id is the path
    relative to PATH, with forward slashes. Reading is thread-safe.

    Args:
        path: PATH; relative to the working directory, or from `~`.
        split: a folder of PATH.
        name: of the source, for messages.

    Raises:
        DataError: no such folder or split, a class folder that is empty or that train
            lacks, or a flat split without a ground truth that fits.
    """

    def __init__(self, path: str, split: str, name: str):
        root = open_root(path, name)
        split = find_split(split, list_folder(root)[0], root, name)
        self.name = name
        self.class_names = class_names(path, name)
        self.num_classes = len(self.class_names)
        self._root = root
        self._split = split
        self._files = PackedNames()
        folders, files = list_folder(root / split)
        files = [file for file in files if is_image(file)]
        self._flat = bool(files)
        if files:
            self._labels = self._read_flat(folders, files)
        else:
            self._labels = self._read_classes(folders)

    def _read_flat(self, folders: list[str], files: list[str]) -> np.ndarray:
        folder = self._root / self._split
        mixed = [name for name in folders if name in self.class_names]
        if mixed:
            raise DataError(
                f"{self.name}: {folder} holds class folders such as {mixed[0]}, and "
                f"images such as {files[0]} beside them; move these into a class folder"
            )
        for file in files:
            self._files.append(file)
        return ground_truth.read_labels(
            self._root, self._split, files, self.class_names
        )

    def _read_classes(self, folders: list[str]) -> np.ndarray:
        folder = self._root / self._split
        if not folders:
            raise DataError(f"{self.name}: {folder} holds no images; unpack them there")
        known = {name: number for number, name in enumerate(self.class_names)}
        counts = np.zeros(self.num_classes, np.int64)
        for class_name in folders:
            if class_name not in known:
                raise DataError(
                    f"{self.name}: {folder} has a class folder {class_name!r} that "
                    f"train lacks; nearest there: {some(class_name, known)}"
                )
            files = [f for f in list_folder(folder / class_name)[1] if is_image(f)]
            if not files:
                raise DataError(
                    f"{self.name}: the class folder {folder / class_name} holds no "
                    "images; fill it or remove it"
                )
            counts[known[class_name]] = len(files)
            for file in files:
                self._files.append(file)
        return np.repeat(np.arange(self.num_classes, dtype=np.int32), counts)

    def __len__(self) -> int:
        return len(self._labels)

    def label_and_id(self, index: int) -> tuple[int, str]:
        """Those of an example, without reading its image."""
        index = range(len(self))[index]
        label = int(self._labels[index])
        folder = "" if self._flat else f"{self.class_names[label]}/"
        return label, f"{self._split}/{folder}{self._files[index]}"

    def __getitem__(self, index: int, /) -> Example:
        label, name = self.label_and_id(index)
        try:
            image = read_image_file(os.path.join(self._root, name))
        except OSError as error:
            raise DataError(
                f"{self.name}: {name} cannot be read: {error.strerror}; restore it, or "
                "remove it and start again"
            ) from error
        return {"image": image, "label": label, "id": name}
