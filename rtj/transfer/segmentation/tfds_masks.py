"""Masks of TFDS data sets, without TensorFlow.

The features are 'image' and, for the mask, 'annotation' or 'segmentation_mask', a PNG.

TFDS's `scene_parse150` 1.0.0 is made of `annotations_instance.tar`, which are no masks
of the scene parsing benchmark: red is one of 100 classes of things, green the number
of the instance. They are refused.
"""

from typing import Any

from rtj.data import tfds_source
from rtj.errors import DataError
from rtj.transfer.examples import Size, image_size
from rtj.transfer.segmentation.folder_masks import ade20k_classes
from rtj.transfer.segmentation.masks import IGNORED, label_table
from rtj.transfer.segmentation.pairs import (
    Classes,
    PairSource,
    count_classes,
    plain_classes,
)
from rtj.transfer.tfds_records import Records, open_builder

SCENE_PARSE = "scene_parse150"
_INSTEAD = "give folders of images and masks as folder:PATH"
_MASK_FEATURES = ("annotation", "segmentation_mask")
_PNG_COLOUR_TYPE, _GREY = 25, 0


def splits(text: str, name: str, data_dir: str = "") -> list[str]:
    """The splits of a prepared TFDS data set; DataError if it is not prepared."""
    return list(open_builder(text, data_dir, name, _INSTEAD).info.splits)


def open_tfds(
    text: str, split: str, name: str, data_dir: str = "", num_classes: int = 0
) -> PairSource:
    """One split of a prepared TFDS data set.

    Args:
        text: NAME[/CONFIG][:VERSION].
        split: TFDS's split string.
        name: of the source, for messages.
        data_dir: the TFDS data dir; '' means $TFDS_DATA_DIR or TFDS's default.
        num_classes: 0 looks at train's masks for the largest number, unless the
            data set is scene_parse150 or oxford_iiit_pet.

    Raises:
        DataError: not prepared, no such split, no such features, masks of instances.
    """
    builder = open_builder(text, data_dir, name, _INSTEAD)
    pairs = TfdsPairs(builder, split, name)
    classes = _known(builder.name)
    if builder.name == SCENE_PARSE:
        _check_scene_parse(pairs, name, data_dir)
    if classes is None:
        if not num_classes:
            num_classes = count_classes(TfdsPairs(builder, "train", name), name)
        classes = plain_classes([*map(str, range(num_classes))])
    return PairSource(pairs, classes, name)


def _known(tfds_name: str) -> Classes | None:
    """What is known about a data set whose masks are not classes from 0 on."""
    if tfds_name == SCENE_PARSE:
        return ade20k_classes(None)
    if tfds_name == "oxford_iiit_pet":
        # 1 the pet, 2 what is behind it, 3 the line between them.
        table = label_table(2, first=1)
        table[[0, 3]] = -1, IGNORED
        return Classes(("pet", "background"), table)
    return None


def _check_scene_parse(pairs: "TfdsPairs", name: str, data_dir: str) -> None:
    if len(pairs) and pairs.mask(0)[0][_PNG_COLOUR_TYPE] != _GREY:
        raise DataError(
            f"{name}: the annotations of tfds:{SCENE_PARSE} are colours, those of the "
            "instances of 100 classes; the benchmark's masks are grey and come as "
            "ADEChallengeData2016: unpack that in the TFDS data dir "
            f"({tfds_source.tfds_dir(data_dir)}), or give it as folder:PATH"
        )


class TfdsPairs:
    """Encoded images and masks of one split."""

    def __init__(self, builder: Any, split: str, name: str) -> None:
        features = dict(builder.info.features.items())
        self._feature = next((key for key in _MASK_FEATURES if key in features), "")
        if not self._feature:
            raise DataError(
                f"{name}: for masks a data set has a feature "
                f"{' or '.join(_MASK_FEATURES)}; this one has {sorted(features)}"
            )
        self._records = Records(builder, split, name, ["image", self._feature])

    def __len__(self) -> int:
        return len(self._records)

    def read(self, index: int, /) -> tuple[bytes, bytes, str]:
        """The image, the mask and the id."""
        record, example_id = self._records[index]
        return record["image"], record[self._feature], example_id

    def mask(self, index: int, /) -> tuple[bytes, str]:
        """The mask and the id."""
        _, mask, example_id = self.read(index)
        return mask, example_id

    def size(self, index: int, /) -> Size:
        """(height, width) of the image."""
        image, _, example_id = self.read(index)
        return image_size(image, example_id)
