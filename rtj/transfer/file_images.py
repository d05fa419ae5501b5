"""Image files as a source of either task, with nothing annotated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtj.data import images
from rtj.errors import DataError
from rtj.transfer.examples import Size, file_size, read_file


class FileImages:
    """One example a file, its mask all class 0 and without an object."""

    name = "images"

    def __init__(self, paths: Sequence[Path], class_names: tuple[str, ...]) -> None:
        self._paths = paths
        self.class_names = class_names
        self.num_classes = len(class_names)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int, /) -> Any:
        path = self._paths[index]
        return {
            "image": read_file(path, str(path), "image"),
            "mask": np.zeros(self.size(index), np.uint8),
            "boxes": np.zeros((0, 4), np.float32),
            "labels": np.zeros(0, np.int32),
            "difficult": np.zeros(0, bool),
            "id": str(path),
        }

    def size(self, index: int, /) -> Size:
        """(height, width) of an image."""
        return file_size(self._paths[index], str(self._paths[index]))

    def pixels(self, index: int) -> np.ndarray:
        """uint8 (height, width, 3), RGB, as the network's pipeline decodes it.

        Raises:
            DataError: it cannot be decoded.
        """
        example = self[index]
        return rgb_pixels(example["image"], example["id"])

    def fault(self, index: int) -> DataError:
        """Why an image cannot be used."""
        try:
            self.pixels(index)
        except DataError as error:
            return error
        raise RuntimeError(f"{self._paths[index]} can be read after all")


def rgb_pixels(image: bytes | np.ndarray, example_id: str) -> np.ndarray:
    """An example's `image` as uint8 (H, W, 3); DataError if it cannot be decoded."""
    opened = images.open_image(image, example_id, "pillow")
    region = opened.region((0, 0, opened.width, opened.height))
    return np.array(region if region.ndim == 3 else np.stack([region] * 3, axis=-1))
