"""A TFDS image classification data set, written without TensorFlow.

Features are `image` (encoded, any format), `label` and `id`, or `file_name` in place of
`id` as in TFDS's own imagenet2012. TFDS does the writing: `tfds.features` serialises
records, `tfds.core.DatasetInfo` the metadata. (`tfds.folder_dataset.write_metadata`
would do only for file names that it finds itself, and then reads with TensorFlow.)
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rtj.data.prepare.array_record_file import ShardFacts
from rtj.errors import DataError

FILE_FORMAT = "array_record"


def features(class_names: Sequence[str], id_feature: str) -> Any:
    """The FeaturesDict of images in `class_names`; with `file_name`, imagenet2012's."""
    import tensorflow_datasets as tfds

    encoding = "jpeg" if id_feature == "file_name" else None
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format=encoding),
            "label": tfds.features.ClassLabel(names=list(class_names)),
            id_feature: tfds.features.Text(),
        }
    )


def serializer(
    features_dict: Any, id_feature: str
) -> Callable[[bytes, int, str], bytes]:
    """A function of (encoded image, label, id) to a record, the same bytes each time.

    It raises DataError for an id that is not UTF-8.
    """
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    serialize = ExampleSerializer(features_dict.get_serialized_info())

    def record(image: bytes, label: int, example_id: str) -> bytes:
        try:
            name = example_id.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"the name {example_id!r} is not UTF-8; rename the file"
            ) from error
        example = {"image": image, "label": label, id_feature: name}
        # The features are a protobuf map, whose order is otherwise free.
        return serialize.get_tf_example(example).SerializeToString(deterministic=True)

    return record


def shard_names(name: str, split: str, count: int) -> list[str]:
    """File names of a split's shards."""
    return [
        f"{name}-{split}.{FILE_FORMAT}-{index:05d}-of-{count:05d}"
        for index in range(count)
    ]


def write_metadata(
    folder: Path,
    *,
    name: str,
    version: str,
    features_dict: Any,
    shards: Mapping[str, Sequence[ShardFacts]],
    description: str,
) -> None:
    """Writes dataset_info.json, features.json and the label names into `folder`.

    Args:
        shards: of each split, in order.
    """
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import dataset_info, naming, splits

    identity = dataset_info.DatasetIdentity(
        name=name,
        version=tfds.core.Version(version),
        data_dir=str(folder),
        module_name="",
    )
    info = dataset_info.DatasetInfo(
        builder=identity,
        description=description,
        features=features_dict,
        supervised_keys=("image", "label"),
        disable_shuffling=True,
    )
    info.set_file_format(FILE_FORMAT)
    split_infos = [
        splits.SplitInfo(
            name=split,
            shard_lengths=[shard.examples for shard in done],
            num_bytes=sum(shard.data_bytes for shard in done),
            filename_template=naming.ShardedFileTemplate(
                dataset_name=name,
                data_dir=folder,
                split=split,
                filetype_suffix=FILE_FORMAT,
            ),
        )
        for split, done in shards.items()
    ]
    info.set_splits(splits.SplitDict(split_infos))
    info.write_to_directory(folder)
