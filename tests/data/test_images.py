"""Odd and broken images through every decoder, against Pillow's own reading."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from rtj.data import images
from rtj.data.images import UndecodableImage, open_image

Y, X = np.mgrid[0:90, 0:130]
PHOTO = Image.fromarray(
    (np.stack([np.sin(X / 9), np.cos(Y / 7), np.sin((X + Y) / 11)], -1) * 100 + 128)
    .astype(np.uint8)
)  # fmt: skip


def encode(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def whole(data, decoder):
    image = open_image(data, "n0123", decoder)
    pixels = image.region((0, 0, image.width, image.height))
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def rotated_by_exif():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    return encode(PHOTO, "JPEG", exif=exif)


def cmyk():
    return encode(PHOTO.convert("CMYK"), "JPEG")


GOOD = {
    "progressive": encode(PHOTO, "JPEG", progressive=True),
    "grey": encode(PHOTO.convert("L"), "JPEG"),
    "full chroma": encode(PHOTO, "JPEG", subsampling=0),
    "half chroma": encode(PHOTO, "JPEG", subsampling=1),
    "quarter chroma": encode(PHOTO, "JPEG", subsampling=2),
    "RGB in a JPEG": encode(PHOTO, "JPEG", keep_rgb=True),
    "CMYK": cmyk(),
    "turned by EXIF": rotated_by_exif(),
    "PNG": encode(PHOTO, "PNG"),
    "WebP": encode(PHOTO, "WEBP", lossless=True),
    "palette": encode(PHOTO.convert("P"), "PNG"),
    "alpha": encode(PHOTO.convert("RGBA"), "PNG"),
    "bytes after the end": encode(PHOTO, "JPEG") + b"\0" * 100,
    "restart markers": encode(PHOTO, "JPEG", restart_marker_blocks=3),
}
BAD = {
    "nothing": b"",
    "noise": b"\x00\x01" * 50,
    "half a JPEG": encode(PHOTO, "JPEG")[:1500],
    "a JPEG header": encode(PHOTO, "JPEG")[:200],
    "half a PNG": encode(PHOTO, "PNG")[:500],
    "text": b"<html>not found</html>",
    "a JPEG that says 60000 x 60000": b"",
}


def with_size(data, width, height):
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


BAD["a JPEG that says 60000 x 60000"] = with_size(GOOD["full chroma"], 60000, 60000)


@pytest.mark.parametrize("decoder", ["simplejpeg", "pillow"])
@pytest.mark.parametrize("kind", GOOD)
def test_an_odd_image_is_read_as_pillow_reads_it(kind, decoder):
    np.testing.assert_array_equal(whole(GOOD[kind], decoder), pillow(GOOD[kind]))


@pytest.mark.parametrize("decoder", ["simplejpeg", "pillow"])
@pytest.mark.parametrize("kind", BAD)
def test_a_broken_image_is_an_error_that_names_the_example(kind, decoder):
    with pytest.raises(UndecodableImage, match=r"example n0123: .*cannot be decoded"):
        whole(BAD[kind], decoder)


def test_exif_orientation_is_ignored():
    assert whole(GOOD["turned by EXIF"], "simplejpeg").shape == (90, 130, 3)


def test_cmyk_is_not_inverted():
    data = encode(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG")
    red = whole(data, "simplejpeg").reshape(-1, 3).mean(0)
    assert red[0] > 230 and red[1] < 25 and red[2] < 25


def test_sixteen_bit_grey_keeps_its_upper_byte():
    levels = np.arange(0, 65536, 13, dtype=np.uint16)[:5000].reshape(50, 100)
    data = encode(Image.fromarray(levels), "PNG")
    found = whole(data, "pillow")
    np.testing.assert_array_equal(found[:, :, 0], levels >> 8)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("kind", ["grey", "full chroma", "quarter chroma", "CMYK"])
def test_decoders_agree_at_every_scale(kind, scale):
    box = (21, 10, 101, 84)
    one, other = (
        open_image(GOOD[kind], "x", decoder).region(box, scale)
        for decoder in ("simplejpeg", "pillow")
    )
    np.testing.assert_array_equal(one, other)
    assert one.shape[:2] == (
        -(-84 // scale) - 10 // scale,
        -(-101 // scale) - 21 // scale,
    )


def test_only_jpegs_can_be_scaled():
    assert open_image(GOOD["PNG"], "x", "pillow").scales == (1,)
    assert open_image(np.zeros((4, 4), np.uint8), "x", "pillow").scales == (1,)
    assert open_image(GOOD["CMYK"], "x", "simplejpeg").scales == (8, 4, 2, 1)


def test_auto_is_the_fast_decoder_where_it_is_installed(monkeypatch):
    assert images.choose("auto") == "simplejpeg"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert images.choose("auto") == "pillow"
