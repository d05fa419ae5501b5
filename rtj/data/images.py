"""Encoded bytes -> the pixels of a region, with the decoders there are.

JPEGs are decoded by simplejpeg (libjpeg-turbo, the extra `fast`) where it is
installed, everything else and every odd JPEG (CMYK, 12 bits, arithmetic coding,
truncated) by Pillow. Both give the same pixels, bit for bit, so which one ran does
not matter to a result; on the 500x375 photos of `python -m rtj.bench input`
simplejpeg takes about half of Pillow's time. As in libjpeg, TensorFlow's ops and
torchvision, EXIF orientation is ignored and damaged codes inside a scan are not
errors, while a file that ends early is.
"""

import importlib
import importlib.util
import threading
from functools import cache
from types import ModuleType
from typing import Protocol

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from rtj.data import jpeg
from rtj.data.crop import IntBox
from rtj.data.image_limits import MAX_BYTES, MAX_PIXELS, few_scans, open_pillow
from rtj.errors import ConfigError, DataError

DECODERS = ("auto", "simplejpeg", "pillow")
_JPEG_SCALES = (8, 4, 2, 1)
_THREAD = threading.local()
# Of memory that a thread keeps from one image to the next: 22 megapixels of RGB.
_KEPT_BYTES = 2**26


class Opened(Protocol):
    """An image whose size is known and whose pixels are decoded when asked for.

    Attributes:
        width, height: pixels.
        scales: what decoding can divide both sides by, largest first.
    """

    width: int
    height: int
    scales: tuple[int, ...]

    def region(self, box: IntBox, scale: int = 1) -> np.ndarray:
        """The pixels of `box`, uint8 (h, w) grey or (h, w, 3) RGB.

        They may lie in memory that the next region decoded by the same thread takes;
        copy what is to stay.

        Args:
            box: source pixels.
            scale: one of `scales`; the region is then the box divided by it, rounded
                outward.
        """
        ...


def choose(decoder: str) -> str:
    """`decoder`, with `auto` resolved; ConfigError if it is not installed."""
    found = importlib.util.find_spec("simplejpeg") is not None
    if decoder == "simplejpeg" and not found:
        raise ConfigError(
            "data.decoder='simplejpeg' is not installed: pip install 'rtj[fast]', or "
            "allowed here: auto, pillow"
        )
    if decoder != "auto":
        return decoder
    return "simplejpeg" if found else "pillow"


def open_image(data: bytes | np.ndarray, example_id: str, decoder: str) -> Opened:
    """Opens encoded bytes or a uint8 (H, W), (H, W, 1|3) array, lazily.

    Raises UndecodableImage, naming the example, for what is no image and for one that
    asks for more than `rtj.data.image_limits` allows, which is told by its header.
    """
    if isinstance(data, np.ndarray):
        return _Array(data)
    if decoder == "simplejpeg":
        layout = jpeg.parse(data)
        if layout is not None and _is_plain(layout, data):
            return _Jpeg(data, layout, example_id)
    return _Pillow(data, example_id)


def _is_plain(layout: jpeg.Layout, data: bytes) -> bool:
    """Not so for what is beyond a limit too: Pillow's way says why it is refused."""
    small = layout.width * layout.height <= MAX_PIXELS and len(data) <= MAX_BYTES
    quick = layout.sequential or few_scans(data)
    return small and quick and layout.components in (1, 3)


class UndecodableImage(DataError):
    """The bytes of one example are no image."""


def undecodable(example_id: str, error: Exception) -> UndecodableImage:
    """The error for an image that cannot be decoded."""
    reason = str(error) or type(error).__name__
    return UndecodableImage(
        f"example {example_id}: the image cannot be decoded: {reason}"
    )


def _scaled(box: IntBox, scale: int) -> IntBox:
    left, top, right, bottom = box
    return left // scale, top // scale, -(-right // scale), -(-bottom // scale)


class _Array:
    scales: tuple[int, ...] = (1,)

    def __init__(self, pixels: np.ndarray) -> None:
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        self._pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def region(self, box: IntBox, scale: int = 1) -> np.ndarray:
        return self._pixels[box[1] : box[3], box[0] : box[2]]


class _Jpeg:
    scales: tuple[int, ...] = _JPEG_SCALES

    def __init__(self, data: bytes, layout: jpeg.Layout, example_id: str) -> None:
        self._data, self._layout, self._id = data, layout, example_id
        self.width, self.height = layout.width, layout.height

    def region(self, box: IntBox, scale: int = 1) -> np.ndarray:
        part = jpeg.cut(self._data, self._layout, box, scale)
        try:
            pixels = self._decode(part, scale)
        except ValueError:
            # Pillow reads some that simplejpeg does not, and explains the others.
            return _Pillow(self._data, self._id).region(box, scale)
        x0, y0, x1, y1 = _scaled(box, scale)
        x, y = part.left // scale, part.top // scale
        return pixels[y0 - y : y1 - y, x0 - x : x1 - x]

    def _decode(self, part: jpeg.Part, scale: int) -> np.ndarray:
        grey = self._layout.components == 1
        options = {}
        if scale > 1:
            options = {
                "min_height": -(-part.height // scale),
                "min_width": -(-part.width // scale),
            }
        pixels = _simplejpeg().decode_jpeg(
            part.data,
            "GRAY" if grey else "RGB",
            strict=False,
            buffer=_scratch(self.width * self.height * self._layout.components),
            **options,
        )
        return pixels[:, :, 0] if grey else pixels


def _scratch(size: int) -> np.ndarray:
    """At least `size` bytes, the same ones for each call in a thread.

    Fresh memory of half a megabyte an image costs the kernel 140 page faults, about a
    tenth of the decoding.
    """
    found = getattr(_THREAD, "buffer", None)
    if found is not None and len(found) >= size:
        return found
    made = np.empty(size, np.uint8)
    if size <= _KEPT_BYTES:
        _THREAD.buffer = made
    return made


@cache
def _simplejpeg() -> ModuleType:
    return importlib.import_module("simplejpeg")


class _Pillow:
    def __init__(self, data: bytes, example_id: str) -> None:
        self._id = example_id
        try:
            self._image = open_pillow(data)
        except Exception as error:
            raise undecodable(example_id, error) from error
        self.width, self.height = self._image.size
        is_jpeg = isinstance(self._image, JpegImageFile)
        self.scales: tuple[int, ...] = _JPEG_SCALES if is_jpeg else (1,)

    def region(self, box: IntBox, scale: int = 1) -> np.ndarray:
        try:
            if scale > 1:
                self._image.draft(None, (self.width // scale, self.height // scale))
            return np.asarray(grey_or_rgb(self._image.crop(_scaled(box, scale))))
        except Exception as error:
            raise undecodable(self._id, error) from error


def grey_or_rgb(image: Image.Image) -> Image.Image:
    """In mode L if it is grey, else RGB; alpha is dropped.

    16-bit grey keeps its upper byte; Pillow's own conversion cuts everything above 255
    off.
    """
    if image.mode in ("L", "RGB"):
        return image
    if image.mode.startswith("I"):
        upper = np.asarray(image, np.int64) >> 8
        return Image.fromarray(np.clip(upper, 0, 255).astype(np.uint8))
    return image.convert("L" if image.mode in ("LA", "La", "1") else "RGB")
