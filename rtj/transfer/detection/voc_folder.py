"""Pascal VOC's folders.

    PATH/JPEGImages/NAME.jpg   PATH/Annotations/NAME.xml   PATH/ImageSets/Main/train.txt

A split is a file of names in ImageSets/Main. Classes are the lines of
`PATH/classes.txt`; without that file they are VOC's 20 if the annotations of the splits
name no other, else the names found, sorted; all annotations are read for that.

Of a folder that holds VOC2007 or VOC2012 or both, as VOCdevkit does, or that holds such
a VOCdevkit, the splits are what the field trains and tests on: 'train' is the union of
the years' trainval, 'test' is 2007's.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rtj.data.images import UndecodableImage
from rtj.data.on_disk import (
    HELD_OUT,
    is_image,
    list_folder,
    open_root,
    same_split,
    some,
)
from rtj.errors import DataError
from rtj.transfer.class_file import read_class_file
from rtj.transfer.detection import voc_xml
from rtj.transfer.detection.annotated import Annotated, AnnotatedSource
from rtj.transfer.detection.objects import BoxExample
from rtj.transfer.examples import Size, SizedSource, file_size, read_file
from rtj.transfer.parts import Joined

_log = logging.getLogger(__name__)
_YEARS = ("VOC2007", "VOC2012")
_JOINT = {
    "train": [("VOC2007", "trainval"), ("VOC2012", "trainval")],
    "test": [("VOC2007", "test")],
}
_SPLITS = ("train", "trainval", *HELD_OUT)


def splits(path: str, name: str) -> list[str]:
    """The splits under PATH: see above; files of other names can be opened too."""
    root = _find_root(path, name)
    if _years(root):
        return [split for split in _JOINT if _joint_folders(root, split)]
    return [split for split in _SPLITS if _list_file(root, split).is_file()]


def open_folder(path: str, split: str, name: str) -> SizedSource[BoxExample]:
    """One split.

    Args:
        path: PATH; relative to the working directory, or from `~`.
        split: see above; val and validation are the same.
        name: of the source, for messages.

    Raises:
        DataError: no such folder or split, or a file of names that makes no sense.
    """
    root = _find_root(path, name)
    if not _years(root):
        split = _find_split(split, splits(path, name), root, name)
        return _open_list(root, split, _class_names(root, name), "", name)
    split = _find_split(split, splits(path, name), root, name)
    parts = _joint_folders(root, split)
    sources = [
        _open_list(root / year, part, voc_xml.CLASSES, f"{year}/", name)
        for year, part in parts
    ]
    for (year, part), source in zip(parts, sources, strict=True):
        _log.info("%s: %s takes %d of %s %s", name, split, len(source), year, part)
    return Joined(sources, name)


def _find_split(split: str, there: list[str], root: Path, name: str) -> str:
    for known in same_split(split):
        if known in there or (not _years(root) and _list_file(root, known).is_file()):
            return known
    raise DataError(
        f"{name}: there is no split {split!r} under {root}; allowed, nearest first: "
        f"{some(split, there) or 'none'}, for each of which there is a list of names "
        "in ImageSets/Main"
    )


def _find_root(path: str, name: str) -> Path:
    root = open_root(path, name)
    for folder in (root, root / "VOCdevkit"):
        if _years(folder) or (folder / "Annotations").is_dir():
            return folder
    raise DataError(
        f"{name}: {root} holds neither Annotations, JPEGImages and ImageSets nor "
        f"{' or '.join(_YEARS)}; give a folder in the layout of Pascal VOC"
    )


def _years(root: Path) -> list[str]:
    return [year for year in _YEARS if (root / year / "Annotations").is_dir()]


def _joint_folders(root: Path, split: str) -> list[tuple[str, str]]:
    parts = _JOINT[split]
    return [part for part in parts if _list_file(root / part[0], part[1]).is_file()]


def _list_file(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Main" / f"{split}.txt"


def _open_list(
    root: Path, split: str, class_names: tuple[str, ...], prefix: str, name: str
) -> AnnotatedSource:
    store = VocFolder(root, _read_list(_list_file(root, split)), prefix)
    return AnnotatedSource(store, class_names, name)


def _read_list(path: Path) -> list[str]:
    """The first word of each line; lines for one class have a second, -1, 0 or 1."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    names = [line.split()[0] for line in lines if line.strip()]
    if len(set(names)) < len(names) or not names:
        twice = [
            a for a, b in zip(sorted(names), sorted(names)[1:], strict=False) if a == b
        ]
        raise DataError(
            f"{path}: it has {f'{twice[0]} on two lines' if names else 'no line'}; "
            "allowed: the name of another image on each line"
        )
    return names


def _class_names(root: Path, name: str) -> tuple[str, ...]:
    file = root / "classes.txt"
    if file.is_file():
        return tuple(read_class_file(file))
    listed = [path for split in _SPLITS if (path := _list_file(root, split)).is_file()]
    images = sorted({image for path in listed for image in _read_list(path)})
    store = VocFolder(root, images, "")
    with ThreadPoolExecutor() as pool:
        found = set().union(*pool.map(store.class_names, range(len(images)))) - {""}
    if not found:
        raise DataError(
            f"{name}: no annotation in {root / 'Annotations'} of {len(images)} images "
            "names a class"
        )
    return voc_xml.CLASSES if found <= {*voc_xml.CLASSES} else tuple(sorted(found))


class VocFolder:
    """The images `names` of a folder with their annotations, as a `Store`.

    Args:
        prefix: of ids.
    """

    def __init__(self, root: Path, names: Sequence[str], prefix: str) -> None:
        self._root, self._names, self._prefix = root, names, prefix
        images = root / "JPEGImages"
        files = list_folder(images)[1] if images.is_dir() else []
        self._files = {Path(file).stem: file for file in files if is_image(file)}

    def __len__(self) -> int:
        return len(self._names)

    def _id(self, index: int) -> str:
        return f"{self._prefix}{self._names[index]}"

    def _image(self, index: int) -> Path:
        name = self._names[index]
        return self._root / "JPEGImages" / self._files.get(name, f"{name}.jpg")

    def _annotation(self, index: int) -> bytes:
        path = self._root / "Annotations" / f"{self._names[index]}.xml"
        return read_file(path, self._id(index), "annotation")

    def read(self, index: int, /) -> Annotated:
        """The image and what its annotation says."""
        example_id = self._id(index)
        objects, size = voc_xml.parse(self._annotation(index), example_id)
        image = read_file(self._image(index), example_id, "image")
        return Annotated(image, objects, size, example_id)

    def class_names(self, index: int) -> set[str]:
        """Of an image's objects; none if its annotation cannot be used."""
        try:
            objects, _ = voc_xml.parse(self._annotation(index), self._id(index))
        except UndecodableImage:
            return set()
        return {item.class_name for item in objects}

    def size(self, index: int, /) -> Size:
        """(height, width) of the image."""
        return file_size(self._image(index), self._id(index))
