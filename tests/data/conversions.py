"""Small trees of images, and conversions of them."""

import io

import numpy as np
from PIL import Image

from rtj.data import sources
from rtj.data.prepare import __main__ as prepare

CLASSES = ["cat", "dog", "owl"]


def photo(seed, width, height, mode="RGB"):
    """Smooth random colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return image.convert(mode)


def jpeg(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def make_tree(root):
    """`folder:` of 3 classes: 10 images each to train, 2 to validate; one a PNG."""
    for split, count in (("train", 10), ("val", 2)):
        for number, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                image = photo(100 * number + i, 40 + 8 * i, 60)
                (folder / f"{split}{i:02d}.jpg").write_bytes(jpeg(image, quality=90))
    photo(7, 30, 30, "RGBA").save(root / "train" / "dog" / "extra.PNG")
    return root


def examples(name, split, data_dir=""):
    source = sources.open_source(name, split, data_dir=str(data_dir))
    return [source[i] for i in range(len(source))]


def shards(folder):
    """What is in a data set's record files, by name."""
    return {path.name: path.read_bytes() for path in folder.glob("*.array_record-*")}


def run_convert(source, data_dir, *flags, name="pets"):
    return prepare.run(
        ["convert", source, f"--name={name}", f"--data_dir={data_dir}", *flags]
    )
