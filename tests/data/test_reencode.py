"""JPEGs written again: which, how large, and with which markers."""

import io
import itertools
import struct

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from rtj.data import jpeg as jpeg_files
from rtj.data.prepare.reencode import Reencoding, reencode
from rtj.errors import DataError

KEEP = Reencoding(every_jpeg=True)


def photo(width, height, mode="RGB"):
    """Smooth random colours: what JPEG is made for."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    return image.convert(mode)


def encoded(image, file_format="JPEG", **options):
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def opened(data):
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def pixels(data):
    return np.asarray(opened(data), np.int16)


def restart_interval(data):
    """What the DRI segment says (ITU T.81, B.2.4.4), 0 without one."""
    at = 2
    while data[at + 1] != 0xDA:
        if data[at + 1] == 0xDD:
            return struct.unpack(">H", data[at + 4 : at + 6])[0]
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return 0


def restart_markers(data):
    """RST0 to RST7 in the scan, in order; other 0xFF there are stuffed with 0."""
    scan = data[data.index(b"\xff\xda") :]
    found = [b for a, b in itertools.pairwise(scan) if a == 0xFF]
    return [kind for kind in found if 0xD0 <= kind <= 0xD7]


@pytest.mark.parametrize(
    ("size", "reduced"),
    [((200, 100), (96, 48)), ((100, 201), (48, 96)), ((49, 49), (48, 48))],
)
def test_a_larger_image_is_reduced_to_the_shorter_side(size, reduced):
    before = encoded(photo(*size), quality=95, subsampling=0)
    data = reencode(before, Reencoding(short_side=48, quality=95))
    assert opened(data).size == reduced
    wanted = np.asarray(photo(*size).resize(reduced, Image.Resampling.LANCZOS))
    assert np.abs(pixels(data) - wanted).mean() < 3


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(48, 48), (200, 48), (20, 30)])
def test_a_smaller_jpeg_is_left_alone(mode, size):
    data = encoded(photo(size[0], size[1], mode))
    assert reencode(data, Reencoding(short_side=48)) is data


@pytest.mark.parametrize(
    ("mode", "file_format", "becomes"),
    [
        ("CMYK", "JPEG", "RGB"),
        ("RGB", "PNG", "RGB"),
        ("RGBA", "PNG", "RGB"),
        ("P", "PNG", "RGB"),
        ("RGB", "WEBP", "RGB"),
        ("RGB", "BMP", "RGB"),
        ("L", "PNG", "L"),
        ("LA", "PNG", "L"),
        ("1", "PNG", "L"),
    ],
)
@pytest.mark.parametrize("short_side", [24, 1000])
def test_other_formats_become_jpeg(mode, file_format, becomes, short_side):
    before = encoded(photo(64, 48, mode), file_format)
    after = opened(reencode(before, Reencoding(short_side=short_side, quality=95)))
    assert (after.format, after.mode) == ("JPEG", becomes)
    assert min(after.size) == min(48, short_side)
    if short_side == 1000 and mode not in ("P", "1"):  # these two are dithered
        wanted = np.asarray(opened(before).convert(becomes), np.int16)
        assert np.abs(np.asarray(after, np.int16) - wanted).mean() < 3


def test_sixteen_bits_keep_their_high_bytes():
    grey = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    data = reencode(encoded(Image.fromarray(grey), "PNG"), Reencoding(short_side=48))
    assert opened(data).mode == "L"
    np.testing.assert_allclose(pixels(data), grey >> 8, atol=4)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("width", [64, 500, 496, 23, 8, 1000])
@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_restart_markers_cut_rows_of_blocks_into_equal_runs(mode, width, sampling):
    before = encoded(photo(width, 40, mode), quality=90, subsampling=sampling)
    after = reencode(before, KEEP)
    layout = jpeg_files.parse(after)
    assert layout is not None and layout.sequential
    unit = 16 if sampling and mode == "RGB" else 8
    high = 16 if sampling == 2 and mode == "RGB" else 8
    across, down = -(-width // unit), -(-40 // high)
    run = restart_interval(after)
    assert across % run == 0 and (run >= 4 or run == across)
    assert not [n for n in range(4, run) if across % n == 0]
    count = across * down // run - 1
    assert restart_markers(after) == [0xD0 + n % 8 for n in range(count)]


@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_restart_markers_change_no_pixel(sampling):
    before = encoded(photo(333, 211), quality=85, subsampling=sampling)
    for short_side in (None, 100):
        made = [
            reencode(before, Reencoding(short_side, 90, blocks, every_jpeg=True))
            for blocks in (0, 4)
        ]
        assert [bool(restart_markers(data)) for data in made] == [False, True]
        np.testing.assert_array_equal(*map(pixels, made))
        assert JpegImagePlugin.get_sampling(opened(made[1])) == sampling


def test_a_jpeg_written_again_keeps_its_tables_and_nearly_its_pixels():
    before = encoded(photo(320, 240), quality=83, progressive=True)
    after = reencode(before, KEEP)
    assert opened(after).quantization == opened(before).quantization
    assert "progressive" not in opened(after).info
    assert np.abs(pixels(after) - pixels(before)).mean() < 0.5


def test_restart_markers_alone_make_cmyk_rgb():
    before = encoded(photo(64, 48, "CMYK"), quality=95)
    after = reencode(before, KEEP)
    assert opened(after).mode == "RGB" and restart_markers(after)
    wanted = np.asarray(opened(before).convert("RGB"), np.int16)
    assert np.abs(pixels(after) - wanted).mean() < 3


def test_restart_markers_alone_leave_other_formats_alone():
    data = encoded(photo(300, 200), "PNG")
    assert reencode(data, KEEP) is data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        encoded(photo(300, 200))[:-500],
        encoded(photo(9, 9), "PNG")[:40],
    ],
)
def test_what_cannot_be_decoded_is_an_error(data):
    with pytest.raises(DataError):
        reencode(data, Reencoding(short_side=8))
