"""Mutated images through every decoder, in a process of its own: one JSON line each.

    python -m tests.data.hostile_images COUNT FOLDER

A line is `[case, route, outcome]`; an outcome is `pixels`, `refused` or the name of an
exception that no caller expects. The cases are the same in every run.
"""

import faulthandler
import io
import json
import random
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from rtj.data import decode
from rtj.data.crop import make_rule
from rtj.data.decode import Decoding
from rtj.data.images import UndecodableImage
from rtj.data.prepare.reencode import Reencoding, reencode
from rtj.errors import DataError
from rtj.preprocess import Preprocess, load_image
from rtj.transfer.examples import image_size
from rtj.transfer.file_images import rgb_pixels
from rtj.transfer.segmentation.masks import decode_mask

_Y, _X = np.mgrid[0:48, 0:65]
_PIXELS = np.stack([_X * 3, _Y * 5, (_X + _Y) * 2], -1).astype(np.uint8)
_PHOTO = Image.fromarray(_PIXELS)
_RULE = make_rule((0.08, 1.0), (3 / 4, 4 / 3), "paper")
_NUMBERS = tuple(np.random.default_rng(0).random(64).tolist())
_SECONDS = 60  # of one case, after which the process ends with a traceback


def _encode(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


SEEDS = {
    "jpeg": _encode(_PHOTO, "JPEG"),
    "progressive": _encode(_PHOTO, "JPEG", progressive=True),
    "restarts": _encode(_PHOTO, "JPEG", restart_marker_blocks=1, subsampling=0),
    "grey": _encode(_PHOTO.convert("L"), "JPEG"),
    "cmyk": _encode(_PHOTO.convert("CMYK"), "JPEG"),
    "png": _encode(_PHOTO, "PNG"),
    "palette": _encode(_PHOTO.convert("P"), "PNG"),
    "alpha": _encode(_PHOTO.convert("RGBA"), "PNG"),
    "sixteen": _encode(Image.fromarray(_X.astype(np.uint16) * 900), "PNG"),
    "webp": _encode(_PHOTO, "WEBP"),
    "lossless": _encode(_PHOTO, "WEBP", lossless=True),
    "animated": _encode(
        _PHOTO, "WEBP", save_all=True, append_images=[_PHOTO.rotate(90)]
    ),
    "gif": _encode(_PHOTO.convert("P"), "GIF"),
    "bmp": _encode(_PHOTO, "BMP"),
    "tiff": _encode(_PHOTO, "TIFF", compression="tiff_lzw"),
    "ppm": _encode(_PHOTO, "PPM"),
}


def _flip_bits(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 3, 20))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _cut(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[: rng.randrange(len(data))])


def _edit_header(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 2, 4))):
        at = rng.randrange(min(len(data), 200))
        data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(data)


def _splice(data: bytearray, rng: random.Random) -> bytes:
    other = SEEDS[rng.choice(sorted(SEEDS))]
    start = rng.randrange(len(other))
    return bytes(data[: rng.randrange(len(data))]) + other[start:]


def _repeat(data: bytearray, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    part = data[start : start + rng.choice((1, 2, 16, 400))]
    return bytes(data[:start] + part * rng.choice((2, 50)) + data[start:])


def _edit_frame(data: bytearray, rng: random.Random) -> bytes:
    """A field of a JPEG's frame header, or of the first chunk of another format."""
    markers = [m for m in (b"\xff\xc0", b"\xff\xc2") if m in data]
    at = data.index(markers[0]) + 2 if markers else rng.choice((8, 16, 18, 24))
    at += rng.randrange(17)
    if at < len(data):
        data[at] = rng.choice((0, 0, 1, 5, 0x10, 0x44, 0xFF))
    return bytes(data)


MUTATIONS: tuple[Callable[[bytearray, random.Random], bytes], ...] = (
    _flip_bits,
    _cut,
    _edit_header,
    _splice,
    _repeat,
    _edit_frame,
)


def repair_png(data: bytes) -> bytes:
    """The checksums of a PNG's chunks made right, so that more of it is looked at."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    fixed, at = bytearray(data), 8
    while at + 12 <= len(fixed):
        (length,) = struct.unpack_from(">I", fixed, at)
        end = at + 8 + length
        if end + 4 > len(fixed):
            break
        struct.pack_into(">I", fixed, end, zlib.crc32(fixed[at + 4 : end]))
        at = end + 4
    return bytes(fixed)


def cases(count: int) -> Iterator[tuple[str, bytes]]:
    """Names and files; each seed and each mutation has its turn."""
    names = sorted(SEEDS)
    for number in range(count):
        rng = random.Random(number)
        name = names[number % len(names)]
        mutate = MUTATIONS[number // len(names) % len(MUTATIONS)]
        data = mutate(bytearray(SEEDS[name]), rng)
        if rng.random() < 0.7:
            data = repair_png(data)
        yield f"{number} {name} {mutate.__name__}", data


def routes(folder: Path) -> dict[str, Callable[[bytes], object]]:
    """Everything in rtj that decodes an image."""
    found: dict[str, Callable[[bytes], object]] = {
        "mask": lambda data: decode_mask(data, "x"),
        "size": lambda data: image_size(data, "x"),
        "pixels": lambda data: rgb_pixels(data, "x"),
        "reencode": lambda data: reencode(data, Reencoding(short_side=20)),
        "predict": lambda data: _predict(data, folder / "image"),
    }
    for decoder in ("simplejpeg", "pillow"):
        how = Decoding(decoder)
        found[f"train {decoder}"] = partial(_train, how=how)
        found[f"eval {decoder}"] = partial(_evaluate, how=how)
    return found


def _train(data: bytes, how: Decoding) -> np.ndarray:
    return decode.train_image(data, "x", 8, _RULE, _NUMBERS, how)


def _evaluate(data: bytes, how: Decoding) -> np.ndarray:
    return decode.eval_image(data, "x", 16, 20, how)


def _predict(data: bytes, path: Path) -> np.ndarray:
    path.write_bytes(data)
    return load_image(path, Preprocess(size=16, resize=20))


def _outcome(run: Callable[[bytes], object], data: bytes) -> str:
    try:
        run(data)
        return "pixels"
    except (UndecodableImage, DataError):
        return "refused"
    except Exception as error:
        return repr(error)


def main() -> None:
    """Prints what became of every case."""
    for name, data in cases(int(sys.argv[1])):
        for route, run in routes(Path(sys.argv[2])).items():
            faulthandler.dump_traceback_later(_SECONDS, exit=True)
            print(json.dumps([name, route, _outcome(run, data)]), flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
