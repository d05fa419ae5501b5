"""Records of a prepared TFDS data set, with images as their bytes."""

from collections.abc import Sequence
from typing import Any

from rtj.data import tfds_source
from rtj.errors import DataError

_ID_FEATURES = ("image/filename", "file_name", "id")


def open_builder(text: str, data_dir: str, name: str, instead: str) -> Any:
    """The builder of `tfds:TEXT`; errors as of `rtj.data.tfds_source.open_builder`.

    Args:
        text: NAME[/CONFIG][:VERSION].
        name: of the data set, for messages.
        instead: what can be done if it is not prepared, beside preparing it.
    """
    if not tfds_source.find_prepared(text, data_dir):
        wanted = tfds_source.parse_name(text)
        config = f"/{wanted.config}" if wanted.config else ""
        root = tfds_source.tfds_dir(data_dir)
        raise DataError(
            f"{name}: {wanted.name}{config} is not prepared: searched {root} (set "
            "data.data_dir or TFDS_DATA_DIR). Prepare it with (needs TensorFlow): tfds "
            f"build {wanted.name}{config} --file_format=array_record "
            f"--data_dir={root} ; or {instead}"
        )
    return tfds_source.open_builder(text, data_dir)


class Records:
    """Random access to one split's records, safe from several threads at once.

    Args:
        builder: of a prepared data set.
        split: TFDS's split string.
        name: of the source, for messages.
        encoded: the features that are images.
    """

    def __init__(self, builder: Any, split: str, name: str, encoded: Sequence[str]):
        self.features = dict(builder.info.features.items())
        missing = [feature for feature in encoded if feature not in self.features]
        if missing:
            raise DataError(
                f"{name}: it has no feature {' or '.join(missing)}, but "
                f"{', '.join(sorted(self.features))}"
            )
        self.name = name
        self._split = split
        self._id = next((key for key in _ID_FEATURES if key in self.features), None)
        self._data = tfds_source.open_split(builder, split, name, encoded)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int, /) -> tuple[dict[str, Any], str]:
        """A record and its id, 'SPLIT:INDEX' if no feature gives one."""
        try:
            record = self._data[index]
        except Exception as error:
            raise DataError(
                f"{self.name}: example number {index} of {self._split} cannot be read: "
                f"{error!r}"
            ) from error
        if self._id is None:
            return record, f"{self._split}:{index}"
        value = record[self._id]
        return record, value.decode() if isinstance(value, bytes) else str(value)
