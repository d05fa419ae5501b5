"""Folders of images and masks: what writes them, and what checks sources."""

import numpy as np
from PIL import Image


def write(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def mask_image(number, size=(7, 5)):
    """The number, with one pixel of 255 at the top left."""
    image = Image.new("L", size, number)
    image.putpixel((0, 0), 255)
    return image


def write_pair(root, split, name, number, suffix="jpg", size=(7, 5)):
    write(root / split / "images" / f"{name}.{suffix}", Image.new("RGB", size))
    write(root / split / "masks" / f"{name}.png", mask_image(number, size))


def examples(source):
    return [source[i] for i in range(len(source))]


def check_protocol(source):
    """The contract of a source of masks, on its first example."""
    example = source[0]
    mask = example["mask"]
    assert isinstance(source.name, str)
    assert isinstance(source.class_names, tuple)
    assert source.num_classes == len(source.class_names)
    assert mask.dtype == np.uint8
    assert mask.shape == source.size(0)
    assert mask[mask != 255].max(initial=0) < source.num_classes
    assert isinstance(example["id"], str)
