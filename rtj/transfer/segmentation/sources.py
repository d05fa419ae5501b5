"""Opens a data set for segmentation by name.

| name | what |
|---|---|
| `scenes` | built in: digits on textured canvases (`rtj.data.scenes`), 11 classes |
| `ade20k` | ADE20K's scene parsing benchmark, 150 classes |
| `tfds:NAME` | a TFDS data set with masks (`tfds_masks`) |
| `folder:PATH` | images and masks in folders (`folder_masks`) |
"""

from pathlib import Path

from rtj.data import tfds_source
from rtj.data.on_disk import held_out
from rtj.data.subset import parse_split
from rtj.transfer import scene_splits
from rtj.transfer.examples import Size, unknown_name
from rtj.transfer.parts import Part
from rtj.transfer.segmentation import folder_masks, tfds_masks
from rtj.transfer.segmentation.masks import MaskExample, MaskSource

__all__ = ["MaskExample", "MaskSource", "eval_split", "open_masks"]

NAMES = ("scenes", "ade20k", "tfds:NAME", "folder:PATH")
_RELEASE = "ADEChallengeData2016"


def open_masks(
    name: str, split: str, *, data_dir: str = "", num_classes: int = 0
) -> MaskSource:
    """Opens one split, or a part of one such as 'train[:10%]'.

    Args:
        name: see above. `ade20k` is the folder ADEChallengeData2016 under the TFDS data
            dir, as its archive unpacks, and TFDS's scene_parse150 if that is not there.
        split: 'train', and 'validation' or 'test' as `eval_split` says.
        data_dir: the TFDS data dir; '' means $TFDS_DATA_DIR or TFDS's default.
        num_classes: where the data do not say and 0 would look through all masks.

    Raises:
        DataError: unknown name or split, or data that are not there; the message says
            what is allowed or what helps.
    """
    kind, _, rest = name.partition(":")
    if kind == "tfds" and rest:
        return tfds_masks.open_tfds(rest, split, name, data_dir, num_classes)
    release = _release(data_dir)
    if name == "ade20k" and not release.is_dir():
        tfds_split = split.replace("validation", "test")
        return tfds_masks.open_tfds(tfds_masks.SCENE_PARSE, tfds_split, name, data_dir)
    split, part = parse_split(split, name)
    source: MaskSource
    if name == "scenes":
        source = SceneMasks(split)
    elif name == "ade20k":
        source = folder_masks.open_folder(str(release), split, name)
    elif kind == "folder" and rest:
        source = folder_masks.open_folder(rest, split, name, num_classes)
    else:
        raise unknown_name(name, NAMES)
    return Part(source, part) if part else source


def _release(data_dir: str) -> Path:
    return Path(tfds_source.tfds_dir(data_dir)) / _RELEASE


def eval_split(name: str, data_dir: str = "") -> str:
    """The split to evaluate on: labelled, and not trained on.

    Of `ade20k` it is 'validation', whose images TFDS calls 'test'; of `tfds:NAME` and
    `folder:PATH` 'validation' (or 'val') where there is one, else 'test'.
    """
    kind, _, rest = name.partition(":")
    if name == "ade20k":
        return "validation"
    if name == "scenes":
        return "test"
    if kind == "folder" and rest:
        return held_out(name, folder_masks.splits(rest, name))
    if kind == "tfds" and rest:
        return held_out(name, tfds_masks.splits(rest, name, data_dir))
    raise unknown_name(name, NAMES)


class SceneMasks:
    """The built-in scenes: background, and the ten digits."""

    name = "scenes"
    class_names = ("background", *map(str, range(10)))
    num_classes = len(class_names)

    def __init__(self, split: str) -> None:
        self._scenes = scene_splits.open_scenes(split)

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int, /) -> MaskExample:
        scene = self._scenes[index]
        return {"image": scene["image"], "mask": scene["mask"], "id": scene["id"]}

    def size(self, index: int, /) -> Size:
        """(height, width) of an image."""
        return scene_splits.SIZE, scene_splits.SIZE
