"""Cut JPEG files hold the pixels of the whole file."""

import io

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from rtj.data import jpeg

Y, X = np.mgrid[0:103, 0:150]
WAVES = np.stack([np.sin(X / 5), np.cos(Y / 4), np.sin((X + Y) / 6)], -1) * 90 + 128
NOISE = np.random.default_rng(0).normal(0, 15, WAVES.shape)
PHOTO = Image.fromarray(np.clip(WAVES + NOISE, 0, 255).astype(np.uint8))


def encode(mode="RGB", **options):
    buffer = io.BytesIO()
    PHOTO.convert(mode).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


# 150 pixels are 10 blocks of 16 pixels or 19 of 8.
FILES = {
    "plain": encode(subsampling=2),
    "full chroma": encode(subsampling=0),
    "half chroma": encode(subsampling=1),
    "grey": encode("L"),
    "runs of 2": encode(subsampling=2, restart_marker_blocks=2),
    "runs of 1": encode(subsampling=2, restart_marker_blocks=1),
    "runs of 19": encode(subsampling=0, restart_marker_blocks=19),
    "runs of rows": encode(subsampling=2, restart_marker_rows=1),
    "grey runs": encode("L", restart_marker_blocks=19),
    "runs that straddle rows": encode(subsampling=2, restart_marker_blocks=7),
    "progressive": encode(progressive=True),
}
NOT_CUT = ("runs that straddle rows", "progressive")
boxes = st.tuples(
    st.integers(0, 149), st.integers(0, 102), st.integers(1, 150), st.integers(1, 103)
).map(lambda b: (b[0], b[1], min(150, b[0] + b[2]), min(103, b[1] + b[3])))


def parsed(data):
    layout = jpeg.parse(data)
    assert layout is not None
    return layout


def decode(data, width=0, height=0):
    return simplejpeg.decode_jpeg(
        data, strict=False, min_width=width, min_height=height
    ).astype(int)


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=60, deadline=None)
@given(box=boxes)
def test_the_pixels_of_the_box_are_those_of_the_whole_file(kind, box):
    data = FILES[kind]
    layout = parsed(data)
    smaller, x, y, width, height = jpeg.cut(data, layout, box, 1)
    assert (width, height) == (parsed(smaller).width, parsed(smaller).height)
    left, top, right, bottom = box
    np.testing.assert_array_equal(
        decode(smaller)[top - y : bottom - y, left - x : right - x],
        decode(data)[top:bottom, left:right],
    )


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("kind", FILES)
def test_the_same_holds_for_scaled_decoding(kind, scale):
    data = FILES[kind]
    layout = parsed(data)
    for box in [(48, 32, 90, 60), (0, 0, 16, 16), (16, 40, 150, 103)]:
        smaller, x, y, width, height = jpeg.cut(data, layout, box, scale)
        left, top, right, bottom = (side // scale for side in box)
        x, y = x // scale, y // scale
        found = decode(smaller, -(-width // scale), -(-height // scale))
        want = decode(data, -(-150 // scale), -(-103 // scale))
        np.testing.assert_array_equal(
            found[top - y : bottom - y, left - x : right - x],
            want[top:bottom, left:right],
        )


@pytest.mark.parametrize("kind", [kind for kind in FILES if kind not in NOT_CUT])
def test_less_is_left_to_decode(kind):
    layout = parsed(FILES[kind])
    part = jpeg.cut(FILES[kind], layout, (70, 40, 80, 50), 1)
    assert part.height < 103
    if "runs of" in kind:
        assert len(part.data) < len(FILES[kind])
    if kind in ("runs of 1", "runs of 2"):
        assert part.width <= 64 and part.height <= 48


@pytest.mark.parametrize("kind", NOT_CUT)
def test_what_cannot_be_cut_is_left_alone(kind):
    layout = parsed(FILES[kind])
    part = jpeg.cut(FILES[kind], layout, (70, 40, 80, 50), 1)
    assert part == (FILES[kind], 0, 0, 150, 103)


def test_the_layout_is_what_the_header_says():
    layout = parsed(FILES["runs of 2"])
    assert (layout.width, layout.height, layout.components) == (150, 103, 3)
    assert layout.unit == (16, 16) and layout.restart_every == 2
    assert layout.sequential and layout.units_per_row == 10
    grey = parsed(FILES["grey"])
    assert grey.components == 1 and grey.unit == (8, 8)
    assert not parsed(FILES["progressive"]).sequential


@given(st.binary(max_size=400))
def test_bytes_that_are_no_jpeg_have_no_layout(data):
    jpeg.parse(b"\xff\xd8" + data)  # raises nothing
    assert jpeg.parse(data[:1] + data) is None or data[:2] == b"\xff\xd8"


@pytest.mark.parametrize("end", [2, 30, 600, -3])
def test_a_truncated_file_has_no_layout(end):
    assert jpeg.parse(FILES["plain"][:end]) is None
