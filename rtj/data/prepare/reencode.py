"""Smaller or faster JPEGs of a data set's images, for `rtj.data.prepare convert`.

Three things can be asked for, each a trade of pixels for time that this project has
not measured in accuracy:

- `short_side`: larger images are reduced to that shorter side and saved with
  `quality`. ffcv writes ImageNet with a longer side of at most 512 pixels: 65.5 GB at
  quality 90, 202 GB if part of it is raw pixels; raw at 256 pixels it is 169.8 GB
  (docs.ffcv.io/benchmarks.html). Its ResNet-50 of 88 epochs, trained at 160 to 192
  pixels on files of 500 (half raw, half quality 90), reaches 78.4 %
  (github.com/libffcv/ffcv-imagenet). The smaller the side, the more random crops of a
  small area are enlarged where the original would have been reduced.
- `restart_blocks`: restart markers let the decoder skip the blocks (8 or 16 pixels
  wide) outside a crop, see `rtj.data.jpeg`. For that they must cut a row of blocks
  into equal runs, so a run is the shortest such that is not below this number. Files
  grow by 0 to 5 % at 4.
- `every_jpeg`: the same for JPEGs that are otherwise left alone, with their own
  quantisation tables and chroma sampling (Pillow's `quality="keep"`). That is not
  lossless: over 20 JPEGs of ten photos (scikit-image's, scikit-learn's) grey levels
  change by 0.00 to 0.06 of 255 on average, RGB values by 0.01 to 0.37 and by up to 27
  at edges of colour where chroma is halved. A first JPEG at quality 90 costs 2 to 3.

The filter is Lanczos: of Pillow's five that antialias it leaves the 224-pixel view
that training takes of the image (bilinear, antialiased) nearest to the one of the
original. Mean difference over nine photos at a shorter side of 256, 320, 384: Lanczos
1.64, 1.06, 0.73 of 255; bicubic 1.75, 1.12, 0.79; bilinear 2.28, 1.54, 1.14; box 2.22,
1.83, 1.66.

EXIF data and colour profiles are not kept; rtj, like TFDS, does not use them.
"""

import io
from dataclasses import dataclass

from PIL import Image, JpegImagePlugin

from rtj.data.image_limits import open_pillow
from rtj.data.images import grey_or_rgb
from rtj.errors import ConfigError, DataError

QUALITY = 92
RESTART_BLOCKS = 4
_MAX_RESTART = 65535  # a 16-bit field of the DRI segment
_JPEG = ("JPEG", "MPO")
_HALVED = 2  # 4:2:0, libjpeg's own choice


@dataclass(frozen=True)
class Reencoding:
    """What is done to images.

    Args:
        short_side: images with a larger shorter side are reduced to it, and images
            that are no plain JPEG (another format, CMYK, 16 bits, alpha) become one;
            None leaves sizes and other formats alone.
        quality: of JPEGs whose pixels change, 1 to 100.
        restart_blocks: least number of blocks between restart markers in what is
            written; 0: no markers.
        every_jpeg: write restart markers into the other JPEGs, too.

    Raises:
        ConfigError: a value is out of range.
    """

    short_side: int | None = None
    quality: int = QUALITY
    restart_blocks: int = RESTART_BLOCKS
    every_jpeg: bool = False

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("short_side", self.short_side, 1, 65500),
            ("quality", self.quality, 1, 100),
            ("restart_blocks", self.restart_blocks, 0, _MAX_RESTART),
        ):
            if value is not None and not low <= value <= high:
                raise ConfigError(
                    f"--{name}={value} is not allowed; allowed: {low} to {high}"
                )

    def describe(self) -> str:
        """One line for people."""
        parts = []
        if self.short_side is not None:
            parts.append(
                f"shorter sides above {self.short_side} pixels reduced, quality "
                f"{self.quality}, other formats made JPEG"
            )
        if self.restart_blocks:
            which = "all JPEGs" if self.every_jpeg else "what was written again"
            least = self.restart_blocks
            parts.append(f"restart markers every {least} or more blocks in {which}")
        return "; ".join(parts)


def reencode(data: bytes, how: Reencoding) -> bytes:
    """The image as a JPEG that `how` asks for, or `data` itself if it is left alone.

    Colours become 8-bit RGB and grey stays grey; alpha is dropped, as it is when an
    image is decoded for training. Chroma sampling is the original's where it is known.

    Raises:
        DataError: the image cannot be decoded. (One that is left alone is not tried.)
    """
    try:
        with open_pillow(data) as image:
            shrink = how.short_side is not None and min(image.size) > how.short_side
            sampling = JpegImagePlugin.get_sampling(image)
            if image.format == "JPEG" and image.mode in ("RGB", "L") and not shrink:
                return _saved(image, "keep", sampling, how) if how.every_jpeg else data
            if how.short_side is None and image.format not in _JPEG:
                return data
            picture = grey_or_rgb(image)
            if shrink:
                picture = picture.resize(
                    _reduced(picture.size, how.short_side), Image.Resampling.LANCZOS
                )
            return _saved(picture, how.quality, sampling, how)
    except Exception as error:
        raise DataError(str(error) or type(error).__name__) from error


def _saved(
    image: Image.Image, quality: int | str, sampling: int, how: Reencoding
) -> bytes:
    """`sampling` is Pillow's: 0 for full chroma, 1 and 2 for half, -1 if not known."""
    if image.mode == "L":
        unit = 8
    else:
        sampling = _HALVED if sampling < 0 else sampling
        unit = 8 if sampling == 0 else 16
    buffer = io.BytesIO()
    image.save(
        buffer,
        "JPEG",
        quality=quality,
        subsampling=sampling,
        restart_marker_blocks=_run(-(-image.width // unit), how.restart_blocks),
    )
    return buffer.getvalue()


def _run(blocks: int, least: int) -> int:
    """The smallest divisor of `blocks` from `least` on, at most all; 0 for 0."""
    if not least:
        return 0
    return next((n for n in range(least, blocks) if blocks % n == 0), blocks)


def _reduced(size: tuple[int, int], short_side: int | None) -> tuple[int, int]:
    """The size with this shorter side and the same ratio, in whole pixels."""
    scale = (short_side or 0) / min(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
