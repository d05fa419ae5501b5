"""The built-in scenes as a data set with splits of fixed lengths."""

from rtj.data.scenes import Scenes
from rtj.errors import DataError

LENGTHS = {"train": 2000, "test": 500}
SIZE = 96


def open_scenes(split: str) -> Scenes:
    """The scenes of 'train' (2,000) or 'test' (500), 96 x 96 pixels."""
    if split not in LENGTHS:
        raise DataError(
            f"scenes: there is no split {split!r}; allowed are {', '.join(LENGTHS)} "
            "and parts of them such as train[:10%]"
        )
    return Scenes(split, LENGTHS[split], size=SIZE)
