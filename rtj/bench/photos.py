"""JPEGs as a photo data set has them, from photos that come with Python packages."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from rtj.data.hashing import make_key, uniforms
from rtj.errors import ConfigError

WIDTH, HEIGHT, QUALITY = 500, 375, 92
CLASSES = 4
LINKS = 16


def photographs() -> list[np.ndarray]:
    """The RGB photos that scikit-image and scikit-learn carry, uint8 (h, w, 3)."""
    try:
        from skimage import data
        from sklearn.datasets import load_sample_images
    except ImportError as error:
        raise ConfigError(
            f"the benchmark needs photos of a package that is not installed: {error}; "
            "pip install 'rtj[bench]'"
        ) from error
    return [
        data.astronaut(),
        data.coffee(),
        data.chelsea(),
        *load_sample_images().images,
    ]


def make_folder(folder: Path, count: int, restart_blocks: int = 0) -> None:
    """Writes `count` JPEGs of 500x375 pixels as `folder`/train/CLASS/NUMBER.jpg.

    They are crops of different places and scales of the photos, quality 92, chroma
    halved both ways, as most of ImageNet is. Each has `LINKS` names: a data set of a
    few hundred examples would be shuffled at a cost that one of thousands has not.
    """
    photos = photographs()
    for number in range(count):
        image = _crop(photos[number % len(photos)], number)
        first = _place(folder, number)
        first.write_bytes(_encode(image, restart_blocks))
        for link in range(1, LINKS):
            os.link(first, _place(folder, number + link * count))


def _place(folder: Path, number: int) -> Path:
    place = folder / "train" / str(number % CLASSES) / f"{number:06d}.jpg"
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _crop(photo: np.ndarray, number: int) -> Image.Image:
    height, width = photo.shape[:2]
    scale, x, y = uniforms(make_key(0xBE7C, number), 3)[0]
    across = min(width, height * WIDTH / HEIGHT) * (0.6 + 0.4 * scale)
    down = across * HEIGHT / WIDTH
    left, top = (width - across) * x, (height - down) * y
    return Image.fromarray(photo).resize(
        (WIDTH, HEIGHT),
        Image.Resampling.BICUBIC,
        box=(left, top, left + across, top + down),
    )


def _encode(image: Image.Image, restart_blocks: int) -> bytes:
    buffer = io.BytesIO()
    image.save(
        buffer,
        "JPEG",
        quality=QUALITY,
        subsampling=2,
        restart_marker_blocks=restart_blocks,
    )
    return buffer.getvalue()
