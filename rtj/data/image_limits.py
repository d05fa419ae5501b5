"""What an image file may ask for, looked at in its header before it is decoded.

A PNG of a few kB may hold 60,000 x 60,000 pixels, 11 GB once decoded. Every place that
decodes an image of someone else's opens it here, so one limit holds for all: training,
evaluation, masks, `rtj.predict` and `rtj.data.prepare`. A file beyond it is an image
that cannot be decoded, named and counted as any other.

Text and colour profiles inside a PNG are unpacked by Pillow to at most 1 MiB each and
64 MiB together.
"""

import io
import os
import struct
from functools import cache
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from rtj.data import jpeg

# Pillow's own limit against decompression bombs, 1/4 GiB of RGB times two; fixed here
# because `PIL.Image.MAX_IMAGE_PIXELS` belongs to the whole process and is often set to
# None. ImageNet's largest image has 19 million.
MAX_PIXELS = 178_956_970
# Every scan of a progressive JPEG goes over all blocks again, and one that is empty is
# 10 bytes and takes 2 ms of 16 megapixels: 1 MB would take the largest image half an
# hour. Ten scans are usual.
MAX_SCANNED = 16 * MAX_PIXELS
# More than the largest allowed image takes in any format, not compressed.
MAX_BYTES = 2**30

# Pillow knows more. EPS starts Ghostscript on the file, others are documents or the
# formats of single programs.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
_START_OF_SCAN = b"\xff\xda"


class ImageRefused(ValueError):
    """An image asks for more than is allowed here."""


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read; AVIF where Pillow is built so."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def suffixes() -> frozenset[str]:
    """The file name extensions of these formats: `.jpg`, `.png` ..."""
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in known if name in formats())


def open_pillow(file: bytes | BinaryIO, only: tuple[str, ...] = ()) -> Image.Image:
    """The image with its size known and its pixels not decoded yet.

    Args:
        file: all of it; of an open file little more than the header is read.
        only: of `formats()`; () for all.

    Raises:
        ImageRefused: more than `MAX_PIXELS`, `MAX_SCANNED` or `MAX_BYTES`.
        Exception: whatever Pillow raises for what is no image.
    """
    if isinstance(file, bytes):
        check_length(len(file))
        _check_scans(file)
        file = io.BytesIO(file)
    _check_webp(file.read(30))
    image = Image.open(file, formats=only or formats())
    check_pixels(*image.size)
    return image


def check_pixels(width: int, height: int) -> None:
    """Raises ImageRefused for an image of too many pixels."""
    if width * height > MAX_PIXELS:
        raise ImageRefused(
            f"it has {width} x {height} pixels; allowed: {MAX_PIXELS:,} in all"
        )


def check_length(size: int) -> None:
    """Raises ImageRefused for a file of too many bytes."""
    if size > MAX_BYTES:
        raise ImageRefused(f"the file has more than {MAX_BYTES:,} bytes")


def few_scans(data: bytes) -> bool:
    """Whether a JPEG of any allowed size has so few scans that it is allowed."""
    # The code cannot be part of a scan's data; in a thumbnail it counts too much by 1.
    return data.count(_START_OF_SCAN) <= MAX_SCANNED // MAX_PIXELS


def _check_scans(data: bytes) -> None:
    """Raises ImageRefused for a JPEG whose scans are too many for its size."""
    if data[:2] != b"\xff\xd8":
        return
    layout = jpeg.parse(data)
    if (layout is not None and layout.sequential) or few_scans(data):
        return
    width, height = Image.open(io.BytesIO(data), formats=("JPEG",)).size
    scans = data.count(_START_OF_SCAN)
    if scans * width * height > MAX_SCANNED:
        raise ImageRefused(
            f"it is a JPEG of {width} x {height} pixels in {scans:,} scans; allowed: "
            f"{MAX_SCANNED:,} pixels times scans"
        )


def _check_webp(start: bytes) -> None:
    """Pillow before 12 makes room for the canvas when it opens the file."""
    if start[:4] != b"RIFF" or start[8:16] != b"WEBPVP8X" or len(start) < 30:
        return
    low_width, high_width, low_height, high_height = struct.unpack("<HBHB", start[24:])
    width, height = low_width + (high_width << 16), low_height + (high_height << 16)
    check_pixels(width + 1, height + 1)


def open_without_waiting(path: str | Path, flags: int) -> int:
    """`os.open`, but a pipe that nobody writes to is open at once, and empty."""
    return os.open(path, flags | os.O_NONBLOCK)


def read_image_file(path: str | Path) -> bytes:
    """The bytes of a file, at most one more than `MAX_BYTES`; or OSError.

    A pipe or a device in the place of a file is an empty one: nobody waits for it.
    """
    # `Path.read_bytes` takes 15 us longer, all in Python's lock, which is what bounds
    # several threads.
    descriptor = open_without_waiting(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = min(os.fstat(descriptor).st_size, MAX_BYTES + 1)
        data = os.read(descriptor, size)
        while len(data) < size and (more := os.read(descriptor, size - len(data))):
            data += more
        return data
    finally:
        os.close(descriptor)
