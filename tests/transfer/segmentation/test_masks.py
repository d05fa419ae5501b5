"""What a mask's PNG says, and which numbers are classes."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from rtj.data.images import UndecodableImage
from rtj.errors import DataError
from rtj.transfer.segmentation.masks import (
    decode_mask,
    label_table,
    make_example,
    to_classes,
)

RNG = np.random.default_rng(0)


def png(bits, colours, rows):
    """A PNG of rows of packed samples, as its specification (ISO 15948) writes it."""

    def chunk(kind, data):
        end = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + end

    width = 8 * len(rows[0]) // bits
    header = struct.pack(">IIBBBBB", width, len(rows), bits, colours, 0, 0, 0)
    colour_table = chunk(b"PLTE", bytes(3 * 2**bits))
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (colour_table if colours == 3 else b"")
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def saved(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_grey_is_its_numbers():
    numbers = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
    mask = decode_mask(saved(Image.fromarray(numbers)), "x")
    np.testing.assert_array_equal(mask, numbers)
    assert mask.dtype == np.uint8


def test_a_palette_is_its_indices_and_not_its_colours():
    numbers = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
    image = Image.fromarray(numbers)
    image.putpalette(RNG.permutation(768).astype(np.uint8).tobytes())
    assert image.mode == "P"
    np.testing.assert_array_equal(decode_mask(saved(image), "x"), numbers)
    clear = saved(image, transparency=3)
    np.testing.assert_array_equal(decode_mask(clear, "x"), numbers)


def test_a_palette_of_few_bits_is_its_indices():
    for bits, row, numbers in (
        (1, [0b10110001], [1, 0, 1, 1, 0, 0, 0, 1]),
        (2, [0b00011011], [0, 1, 2, 3]),
        (4, [0x0A, 0xF3], [0, 10, 15, 3]),
    ):
        np.testing.assert_array_equal(decode_mask(png(bits, 3, [row]), "x"), [numbers])


def test_sixteen_bits_are_not_cut_to_eight():
    numbers = np.array([[0, 1, 255], [256, 300, 65535]], np.uint16)
    mask = decode_mask(saved(Image.fromarray(numbers)), "x")
    np.testing.assert_array_equal(mask, numbers)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_of_few_bits_is_refused(bits):
    with pytest.raises(UndecodableImage, match=f"example x: .* {bits} bits a sample"):
        decode_mask(png(bits, 0, [[0x1B]]), "x")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_refused(mode):
    with pytest.raises(UndecodableImage, match=f"example x: its mask .* mode {mode}"):
        decode_mask(saved(Image.new(mode, (3, 2))), "x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no mask",
        saved(Image.new("L", (3, 2)), "JPEG"),
        saved(Image.effect_noise((50, 50), 60))[:900],
    ],
    ids=["empty", "text", "jpeg", "cut off"],
)
def test_what_is_no_png_is_refused(data):
    with pytest.raises(UndecodableImage, match="example x: its mask cannot be decoded"):
        decode_mask(data, "x")


def test_numbers_become_classes_from_the_first_on():
    numbers = np.array([[0, 1, 2], [150, 255, 7]], np.uint8)
    plain = to_classes(numbers, label_table(151), "x")
    np.testing.assert_array_equal(plain, numbers)
    shifted = to_classes(numbers, label_table(150, first=1), "x")
    np.testing.assert_array_equal(shifted, [[255, 0, 1], [149, 255, 6]])
    assert plain.dtype == shifted.dtype == np.uint8
    for dtype in (np.uint16, np.int32):
        wide = to_classes(numbers.astype(dtype), label_table(150, first=1), "x")
        np.testing.assert_array_equal(wide, shifted)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(3, np.uint8), (254, np.uint8), (256, np.uint16), (65535, np.uint16), (-1, int)],
)
def test_a_number_that_is_no_class_is_named(value, dtype):
    numbers = np.array([[0, 255, 2], [value, value, 1]], dtype)
    with pytest.raises(UndecodableImage) as caught:
        to_classes(numbers, label_table(3), "x")
    assert str(caught.value) == (
        f"example x: 2 pixels of its mask are {value}; allowed: 0 to 2, and 255"
    )


@pytest.mark.parametrize(("count", "first"), [(0, 0), (256, 0), (255, 1)])
def test_as_many_classes_as_eight_bits_hold(count, first):
    assert label_table(255)[254] == 254 and label_table(254, 1)[254] == 253
    with pytest.raises(DataError, match=f"masks of {count} classes"):
        label_table(count, first)


def test_a_mask_of_another_size_is_refused():
    image = saved(Image.new("RGB", (7, 5)), "JPEG")
    turned = saved(Image.new("L", (5, 7)))
    with pytest.raises(UndecodableImage, match=r"x: its mask is 5 x 7 .* image 7 x 5"):
        make_example(image, turned, "x", label_table(3))
    with pytest.raises(UndecodableImage, match="x: the image cannot be decoded"):
        make_example(b"", turned, "x", label_table(3))
    good = make_example(image, saved(Image.new("L", (7, 5), 2)), "x", label_table(3))
    assert good["mask"].shape == (5, 7) and good["mask"].max() == 2
