"""Decoding against plain Pillow, with every decoder there is."""

import io

import numpy as np
import pytest
from PIL import Image

from rtj.data import crop, images
from rtj.data.decode import (
    Decoding,
    eval_image,
    make_decoding,
    train_image,
    whole_image,
)
from rtj.errors import ConfigError

WHOLE = crop.Rule((1.0, 1.0), (0.01, 100.0))


@pytest.fixture(params=["simplejpeg", "pillow"])
def how(request):
    return make_decoding(request.param)


def photo(width, height):
    """A smooth RGB test picture with all frequencies below 40 pixels a period."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 9) * np.cos(y / 13), np.sin((x + y) / 17), np.cos(x / 31)]
    return Image.fromarray((np.stack(waves, -1) * 110 + 128).astype(np.uint8))


def encode(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def reference_eval(image, size, resize, filter=Image.Resampling.BILINEAR):
    """Resize, then crop, in two plain steps."""
    width, height = image.size
    scale = resize / min(width, height)
    new = (
        resize if width <= height else int(width * resize / height),
        resize if height <= width else int(height * resize / width),
    )
    assert new[0] >= int(width * scale) - 1
    image = image.convert("RGB").resize(new, filter)
    left, top = round((new[0] - size) / 2), round((new[1] - size) / 2)
    return np.asarray(image.crop((left, top, left + size, top + size)))


SIZES = pytest.mark.parametrize(
    ("width", "height", "size", "resize"),
    [(500, 375, 224, 256), (375, 500, 224, 256), (301, 203, 64, 73), (28, 28, 32, 36)],
)


def difference(left, right):
    return np.abs(left.astype(int) - right.astype(int))


@SIZES
def test_evaluation_crop_equals_resize_then_crop_in_pillow(
    width, height, size, resize, how
):
    image = photo(width, height)
    got = eval_image(encode(image, "PNG"), "x", size, resize, how)
    apart = difference(got, reference_eval(image, size, resize))
    # The same filter weights up to float rounding: at most one grey level apart.
    assert apart.max() <= 1 and apart.mean() < 0.01


@SIZES
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_jpeg_evaluation_is_within_a_grey_level_of_pillow_on_average(
    width, height, size, resize, interpolation, how
):
    data = encode(photo(width, height), "JPEG", quality=90)
    how = make_decoding(how.decoder, interpolation)
    got = eval_image(data, "x", size, resize, how)
    filter = Image.Resampling[interpolation.upper()]
    image = Image.open(io.BytesIO(data))
    assert difference(got, reference_eval(image, size, resize, filter)).mean() < 0.4


def test_without_antialiasing_the_evaluation_crop_is_opencv_resize_then_crop():
    cv2 = pytest.importorskip("cv2")
    image = photo(500, 375)
    for interpolation, method in (
        ("bilinear", cv2.INTER_LINEAR),
        ("bicubic", cv2.INTER_CUBIC),
    ):
        how = make_decoding("pillow", interpolation, antialias=False)
        got = eval_image(encode(image, "PNG"), "x", 224, 256, how)
        whole = cv2.resize(np.asarray(image), (341, 256), interpolation=method)
        # OpenCV's affine warp rounds places to 1/32 pixel.
        assert difference(got, whole[16:240, 58:282]).mean() < 0.5


def test_the_two_filters_differ_where_an_image_shrinks():
    data = encode(Image.fromarray(NOISE), "PNG")
    smooth, plain = (
        train_image(data, "x", 32, WHOLE, HALVES, make_decoding(antialias=antialias))
        for antialias in (True, False)
    )
    assert plain.std() > 1.5 * smooth.std()


NOISE = np.random.default_rng(3).integers(0, 256, (200, 200, 3), dtype=np.uint8)
HALVES = [0.5] * crop.NUMBERS_PER_BOX


def test_channels_are_red_green_blue(how):
    solid = Image.new("RGB", (40, 30), (200, 100, 50))
    for data in (encode(solid, "PNG"), np.asarray(solid)):
        image = eval_image(data, "x", 16, 16, how)
        np.testing.assert_array_equal(
            image, np.broadcast_to((200, 100, 50), (16, 16, 3))
        )
    image = eval_image(encode(solid, "JPEG"), "x", 16, 16, how)
    assert difference(image, np.full((16, 16, 3), (200, 100, 50))).max() <= 2


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_every_colour_mode_becomes_rgb(mode, how):
    image = photo(60, 50).convert(mode)
    data = encode(image, "TIFF" if mode == "CMYK" else "PNG")
    got = eval_image(data, "x", 32, 40, how)
    assert got.shape == (32, 32, 3) and got.dtype == np.uint8
    want = reference_eval(image.convert("RGB"), 32, 40)
    assert difference(got, want).max() <= 1


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 1), (9, 8, 3)])
def test_arrays_of_grey_and_colour_are_accepted(shape, how):
    image = eval_image(np.full(shape, 77, np.uint8), "x", 8, 8, how)
    np.testing.assert_array_equal(image, np.full((8, 8, 3), 77))


def test_training_crop_shows_the_box_it_was_given(how):
    image = photo(200, 100)
    rule = crop.Rule((0.2, 0.4), (1.0, 1.2))
    numbers = [0.3] * crop.NUMBERS_PER_BOX
    box = crop.random_box(200, 100, rule, numbers)
    got = train_image(encode(image, "PNG"), "x", 32, rule, numbers, how)
    want = image.resize((32, 32), Image.Resampling.BILINEAR, box=box)
    np.testing.assert_array_equal(got, np.asarray(want))


def test_scaled_jpeg_decoding_changes_the_result_by_less_than_jpeg_noise(how):
    data = encode(photo(2000, 1500), "JPEG", quality=92)
    got = train_image(data, "x", 96, WHOLE, [0.0] * crop.NUMBERS_PER_BOX, how)
    full = Image.open(io.BytesIO(data)).convert("RGB")
    want = np.asarray(full.resize((96, 96), Image.Resampling.BILINEAR))
    assert difference(got, want).mean() < 1.0


def whole(data, size, how, may_reduce):
    image = images.open_image(data, "x", how.decoder)
    return whole_image(image, size, how, may_reduce=may_reduce)


@pytest.mark.parametrize(("width", "height"), [(800, 400), (400, 800)])
def test_a_whole_image_is_what_pillow_makes_of_it_decoded_at_half(width, height, how):
    data = encode(photo(width, height), "JPEG", quality=90)
    target = width // 4, height // 4
    for may_reduce in (False, True):
        image = Image.open(io.BytesIO(data))
        if may_reduce:
            image.draft(None, (width // 2, height // 2))
            assert image.size == (width // 2, height // 2)
        want = image.resize(target, Image.Resampling.BILINEAR)
        got = whole(data, target[::-1], how, may_reduce)
        np.testing.assert_array_equal(got, want)


def test_a_whole_image_without_antialiasing_is_nearly_opencvs():
    cv2 = pytest.importorskip("cv2")
    image = photo(603, 401)
    data = encode(image, "JPEG", quality=95)
    plain = make_decoding("pillow", antialias=False)
    want = cv2.resize(np.asarray(image), (150, 100), interpolation=cv2.INTER_LINEAR)
    for may_reduce in (False, True):
        got = whole(data, (100, 150), plain, may_reduce)
        assert difference(got, want).mean() < 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_decoding("nvjpeg"), "data.decoder='nvjpeg': .*auto, simplejpeg"),
        (lambda: make_decoding("auto", "box"), "data.interpolation='box': .*bicubic"),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_what_is_allowed(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_what_is_not_installed_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"data.decoder='simplejpeg'.*rtj\[fast\]"):
        make_decoding("simplejpeg")
    with pytest.raises(ConfigError, match=r"data.antialias=False.*rtj\[fast\]"):
        make_decoding("auto", antialias=False)
    assert make_decoding("auto") == Decoding("pillow", "bilinear", True)
