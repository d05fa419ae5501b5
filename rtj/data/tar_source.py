"""Images in tar files, WebDataset's layout: `train-000000.tar`, or `train/*.tar`.

`rtj.data.tar_splits` says which files are a split's shards, `rtj.data.tar_shard` what
a sample is. Shards must not be compressed.
"""

import numpy as np

from rtj.data.examples import Example
from rtj.data.file_pool import FilePool
from rtj.data.image_limits import MAX_BYTES
from rtj.data.on_disk import find_split, open_root
from rtj.data.tar_index import TarIndex, open_index
from rtj.data.tar_splits import check_uncompressed, find_shards
from rtj.errors import DataError

_TRAIN = "train"


def splits(path: str, name: str) -> list[str]:
    """The splits that have shards under PATH; DataError if it is no folder."""
    return sorted(find_shards(open_root(path, name), name))


class TarSource:
    """One split of WebDataset shards; items are the files' bytes, not decoded.

    Each read is one `pread` from a shard, thread-safe, with at most 256 files kept
    open. There are as many classes as train's largest label plus 1: nothing in the
    format says how many. An id is `SHARD:KEY`. The first opening reads the headers of
    all shards and keeps what it found (`rtj.data.tar_index`); in memory a sample takes
    32 bytes and its key.

    Args:
        path: the folder of the shards; relative to the working directory, or from `~`.
        split: see `tar_splits`; `val` and `validation` are one name.
        name: of the source, for messages.

    Raises:
        DataError: no shards of the split, a shard that is compressed or damaged, or a
            sample without an image or a label; see `tar_shard.read_shard`.
    """

    def __init__(self, path: str, split: str, name: str):
        self.name = name
        self._files = FilePool()
        self._index = _open(path, split, name)
        train = self._index if split == _TRAIN else _open(path, _TRAIN, name)
        self.num_classes = int(train.label.max()) + 1
        highest = int(np.argmax(self._index.label))
        if self._index.label[highest] >= self.num_classes:
            raise DataError(
                f"{name}: {self._id(highest)} has label {self._index.label[highest]}, "
                f"but train's labels are 0 to {self.num_classes - 1}; pack both splits "
                "with the same classes"
            )

    def _id(self, index: int) -> str:
        shard = self._index.shards[self._index.shard[index]]
        return f"{shard.name}:{self._index.keys[index]}"

    def __len__(self) -> int:
        return len(self._index.label)

    def label_and_id(self, index: int) -> tuple[int, str]:
        """Those of an example, without reading its image."""
        return int(self._index.label[index]), self._id(index)

    def __getitem__(self, index: int, /) -> Example:
        index = range(len(self))[index]
        shard = self._index.shards[self._index.shard[index]]
        offset, size = int(self._index.offset[index]), int(self._index.size[index])
        size = min(size, MAX_BYTES + 1)  # the decoder then says that it is too long
        try:
            image = self._files.read(str(shard), offset, size)
        except OSError as error:
            raise DataError(
                f"{self.name}: {shard} cannot be read: {error.strerror}; restore it"
            ) from error
        if len(image) != size:
            raise DataError(
                f"{self.name}: {shard} ends before {self._id(index)}, which it held "
                "when it was indexed; restore it, or start again to index it anew"
            )
        return {
            "image": image,
            "label": int(self._index.label[index]),
            "id": self._id(index),
        }

    def close(self) -> None:
        """Closes the shards; a later read opens them again."""
        self._files.close()


def _open(path: str, split: str, name: str) -> TarIndex:
    root = open_root(path, name)
    found = find_shards(root, name)
    split = find_split(split, found, root, name)
    return open_index(check_uncompressed(found[split], name), split, name)
