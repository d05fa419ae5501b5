"""From an image file to the pixels a network expects, as its weights were evaluated.

Shorter side resized, centre crop, mean and deviation: the steps of the paper
(section 2.1), of timm's `transforms_imagenet_eval` and of torchvision's presets.
EXIF orientation is ignored, as it is in training there and here.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from rtj.data.image_limits import check_pixels, open_pillow, read_image_file
from rtj.errors import DataError

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocess:
    """How images are prepared.

    Attributes:
        size: pixels of the square crop.
        resize: pixels of the shorter side before it; at least `size`.
        interpolation: a key of `INTERPOLATIONS`.
        mean, std: RGB, on the scale 0 to 255.
    """

    size: int = 224
    resize: int = 256
    interpolation: str = "bilinear"
    mean: Colour = (123.68, 116.779, 103.939)
    std: Colour = (58.393, 57.12, 57.375)

    @property
    def crop_pct(self) -> float:
        """timm's number: `floor(size / crop_pct)` is `resize`."""
        value = self.size / self.resize
        exact = math.floor(self.size / value) == self.resize
        return value if exact else self.size / (self.resize + 0.25)

    def describe(self) -> str:
        """One line for people."""
        colours = (
            "(" + ", ".join(f"{c:.6g}" for c in colour) + ")"
            for colour in (self.mean, self.std)
        )
        mean, std = colours
        return (
            f"shorter side {self.resize} ({self.interpolation}), centre crop "
            f"{self.size}, mean {mean}, std {std}"
        )


def paper(native_size: int) -> Preprocess:
    """The paper's validation: 224 of 256, and 299 of 342 for Inception-V3."""
    return Preprocess(size=native_size, resize=math.ceil(native_size * 256 / 224))


def load_image(path: Path, how: Preprocess) -> np.ndarray:
    """The crop of an image file, uint8 (size, size, 3) RGB.

    Raises:
        DataError: names the file that cannot be read, or that asks for more pixels
            than `rtj.data.image_limits` allows.
    """
    try:
        with open_pillow(read_image_file(path)) as opened:
            image = opened.convert("RGB")
        shorter = min(image.size)
        width, height = (how.resize * side // shorter for side in image.size)
        # A line of 1 x 1,000,000 pixels is 256 x 256,000,000 after it.
        check_pixels(width, height)
        # A whole resize and then the crop, not `resize(box=...)`: that leaves other
        # taps out at the ends of the kernel, up to 19 of 255 in a pixel (bicubic,
        # 300x500), and timm's and torchvision's pixels are wanted here.
        image = image.resize((width, height), INTERPOLATIONS[how.interpolation])
        left, top = (round((side - how.size) / 2) for side in image.size)
        return np.asarray(image.crop((left, top, left + how.size, top + how.size)))
    except Exception as error:
        # Pillow's decoders raise many types, SyntaxError among them.
        reason = str(error) or type(error).__name__
        raise DataError(f"image {str(path)!r} cannot be read: {reason}") from error


def normalize(images: jax.Array | np.ndarray, how: Preprocess) -> jax.Array:
    """uint8 or float images on the scale 0 to 255 to what the network takes."""
    mean, std = (jnp.asarray(c, jnp.float32) for c in (how.mean, how.std))
    return (jnp.asarray(images, jnp.float32) - mean) / std
