"""Decoding against plain Pillow."""

import io

import numpy as np
import pytest
from PIL import Image

from rtj.data import crop, decode
from rtj.errors import DataError

WHOLE = ((1.0, 1.0), (0.01, 100.0))


def photo(width, height):
    """A smooth RGB test picture with all frequencies below 40 pixels a period."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 9) * np.cos(y / 13), np.sin((x + y) / 17), np.cos(x / 31)]
    return Image.fromarray((np.stack(waves, -1) * 110 + 128).astype(np.uint8))


def encode(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def reference_eval(image, size, resize):
    """Resize, then crop, in two plain steps."""
    width, height = image.size
    scale = resize / min(width, height)
    new = (
        resize if width <= height else int(width * resize / height),
        resize if height <= width else int(height * resize / width),
    )
    assert new[0] >= int(width * scale) - 1
    image = image.convert("RGB").resize(new, Image.Resampling.BILINEAR)
    left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize(
    ("width", "height", "size", "resize"),
    [(500, 375, 224, 256), (375, 500, 224, 256), (301, 203, 64, 73), (28, 28, 32, 36)],
)
def test_evaluation_crop_equals_resize_then_crop_in_pillow(width, height, size, resize):
    image = photo(width, height)
    got = decode.eval_image(encode(image, "PNG"), "x", size, resize)
    want = reference_eval(image, size, resize)
    difference = np.abs(got.astype(int) - want.astype(int))
    # The same filter weights up to float rounding: at most one grey level apart.
    assert difference.max() <= 1 and difference.mean() < 0.01


def test_channels_are_red_green_blue():
    solid = Image.new("RGB", (40, 30), (200, 100, 50))
    for data in (encode(solid, "PNG"), np.asarray(solid)):
        image = decode.eval_image(data, "x", 16, 16)
        np.testing.assert_array_equal(
            image, np.broadcast_to((200, 100, 50), (16, 16, 3))
        )


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_every_colour_mode_becomes_rgb(mode):
    image = photo(60, 50).convert(mode)
    data = encode(image, "TIFF" if mode == "CMYK" else "PNG")
    got = decode.eval_image(data, "x", 32, 40)
    assert got.shape == (32, 32, 3) and got.dtype == np.uint8
    want = reference_eval(image.convert("RGB"), 32, 40)
    assert np.abs(got.astype(int) - want.astype(int)).max() <= 1


def test_cmyk_jpeg_is_not_inverted():
    data = encode(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG")
    red = decode.eval_image(data, "x", 16, 16).reshape(-1, 3).mean(0)
    assert red[0] > 230 and red[1] < 25 and red[2] < 25


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 1), (9, 8, 3)])
def test_arrays_of_grey_and_colour_are_accepted(shape):
    image = decode.eval_image(np.full(shape, 77, np.uint8), "x", 8, 8)
    np.testing.assert_array_equal(image, np.full((8, 8, 3), 77))


def test_training_crop_shows_the_box_it_was_given():
    image = photo(200, 100)
    numbers = [0.3] * crop.NUMBERS_PER_BOX
    area, ratio = (0.2, 0.4), (1.0, 1.2)
    box = crop.random_box(200, 100, area, ratio, numbers)
    got = decode.train_image(encode(image, "PNG"), "x", 32, area, ratio, numbers)
    want = np.asarray(image.crop(box).resize((32, 32), Image.Resampling.BILINEAR))
    inner = (slice(1, -1), slice(1, -1))  # The border may see one pixel beyond.
    assert np.abs(got[inner].astype(int) - want[inner].astype(int)).max() <= 2


def test_scaled_jpeg_decoding_changes_the_result_by_less_than_jpeg_noise():
    data = encode(photo(2000, 1500), "JPEG", quality=92)
    numbers = [0.0] * crop.NUMBERS_PER_BOX
    got = decode.train_image(data, "x", 96, *WHOLE, numbers)
    full = Image.open(io.BytesIO(data)).convert("RGB")
    want = np.asarray(full.resize((96, 96), Image.Resampling.BILINEAR))
    assert np.abs(got.astype(int) - want.astype(int)).mean() < 1.0


@pytest.mark.parametrize("damage", ["empty", "noise", "truncated"])
def test_an_undecodable_image_is_an_error_that_names_the_example(damage):
    data = encode(photo(300, 200), "JPEG")
    data = {"empty": b"", "noise": b"\x00\x01" * 50, "truncated": data[:2000]}[damage]
    numbers = [0.5] * crop.NUMBERS_PER_BOX
    with pytest.raises(DataError, match=r"n0123.*cannot be decoded"):
        decode.eval_image(data, "n0123", 32, 36)
    with pytest.raises(DataError, match=r"n0123.*cannot be decoded"):
        decode.train_image(data, "n0123", 32, *WHOLE, numbers)
