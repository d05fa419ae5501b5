"""Opens a data set for object detection by name.

| name | what |
|---|---|
| `scenes` | built in: digits on textured canvases (`rtj.data.scenes`), 10 classes |
| `voc` | Pascal VOC: trains on 2007 + 2012 trainval, tests on 2007 test (TFDS) |
| `tfds:NAME` | a TFDS data set with boxes (`tfds_boxes`) |
| `folder:PATH` | Pascal VOC's folders, your own data in them or VOC's (`voc_folder`) |
"""

import numpy as np

from rtj.data.on_disk import held_out
from rtj.data.subset import parse_split
from rtj.transfer import scene_splits
from rtj.transfer.detection import tfds_boxes, voc_folder
from rtj.transfer.detection.objects import BoxExample, BoxSource
from rtj.transfer.examples import Size, unknown_name
from rtj.transfer.parts import Part

__all__ = ["BoxExample", "BoxSource", "eval_split", "open_boxes"]

NAMES = ("scenes", "voc", "tfds:NAME", "folder:PATH")


def open_boxes(name: str, split: str, *, data_dir: str = "") -> BoxSource:
    """Opens one split, or a part of one such as 'train[:10%]'.

    Args:
        name: see above.
        split: 'train', and 'validation' or 'test' as `eval_split` says.
        data_dir: the TFDS data dir; '' means $TFDS_DATA_DIR or TFDS's default.

    Raises:
        DataError: unknown name or split, or data that are not there; the message says
            what is allowed or what helps.
    """
    kind, _, rest = name.partition(":")
    if kind == "tfds" and rest:
        return tfds_boxes.open_tfds(rest, split, name, data_dir)
    split, part = parse_split(split, name)
    source: BoxSource
    if name == "scenes":
        source = SceneBoxes(split)
    elif name == "voc":
        source = tfds_boxes.open_voc(split, name, data_dir)
    elif kind == "folder" and rest:
        source = voc_folder.open_folder(rest, split, name)
    else:
        raise unknown_name(name, NAMES)
    return Part(source, part) if part else source


def eval_split(name: str, data_dir: str = "") -> str:
    """The split to evaluate on: labelled, and not trained on.

    Of `tfds:NAME` and `folder:PATH` it is 'validation' (or 'val') where there is one,
    else 'test'; of the others 'test'.
    """
    kind, _, rest = name.partition(":")
    if name in ("scenes", "voc"):
        return "test"
    if kind == "folder" and rest:
        return held_out(name, voc_folder.splits(rest, name))
    if kind == "tfds" and rest:
        return held_out(name, tfds_boxes.splits(rest, name, data_dir))
    raise unknown_name(name, NAMES)


class SceneBoxes:
    """The built-in scenes: the ten digits, none of them difficult."""

    name = "scenes"
    class_names = tuple(map(str, range(10)))
    num_classes = len(class_names)

    def __init__(self, split: str) -> None:
        self._scenes = scene_splits.open_scenes(split)

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int, /) -> BoxExample:
        scene = self._scenes[index]
        return {
            "image": scene["image"],
            "boxes": scene["boxes"],
            "labels": scene["classes"],
            "difficult": np.zeros(len(scene["classes"]), bool),
            "id": scene["id"],
        }

    def size(self, index: int, /) -> Size:
        """(height, width) of an image."""
        return scene_splits.SIZE, scene_splits.SIZE
