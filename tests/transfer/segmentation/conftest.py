"""Data sets with masks, as they lie on a disk."""

import pytest
from PIL import Image

from tests.transfer.segmentation.mask_files import write, write_pair


@pytest.fixture
def folder(tmp_path):
    """Three images to train and one to validate on, classes 0 to 3."""
    for number, name in enumerate("abc"):
        write_pair(tmp_path, "train", name, number, size=(7 + number, 5))
    write_pair(tmp_path, "val", "d", 3, "PNG")
    return tmp_path


@pytest.fixture
def release(tmp_path):
    """ADE20K as its archive unpacks, two images and one."""
    root = tmp_path / "ADEChallengeData2016"
    for split, names in (("training", "ab"), ("validation", "c")):
        for number, name in enumerate(names):
            write(root / "images" / split / f"{name}.jpg", Image.new("RGB", (7, 5)))
            mask = Image.new("L", (7, 5), 150 * number)
            mask.putpixel((3, 2), 1)
            write(root / "annotations" / split / f"{name}.png", mask)
    return root
