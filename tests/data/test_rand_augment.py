"""RandAugment: each operation against Pillow, and how operations are drawn."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from rtj.data.augment import augment
from rtj.data.rand_augment import (
    OPERATIONS,
    apply_operation,
    autocontrast,
    equalize,
    rand_augment,
)

FILL = (124, 116, 104)
# Pillow's results are whole numbers, ours are not: its blends and its resampling round
# down or to the nearest, and so does, before three of the blends, the image that it
# blends with (half a level, times 0.9). The rest is the same whole number in both.
WHOLE, ROUNDED, TWICE = 1e-3, 1.0 + 1e-3, 1.45 + 1e-3
LEVELS = {
    "identity": WHOLE,
    "autocontrast": ROUNDED,
    "equalize": WHOLE,
    "rotate": ROUNDED,
    "solarize": WHOLE,
    "color": TWICE,
    "posterize": WHOLE,
    "contrast": TWICE,
    "brightness": ROUNDED,
    "sharpness": TWICE,
    "shear_x": ROUNDED,
    "shear_y": ROUNDED,
    "translate_x": ROUNDED,
    "translate_y": ROUNDED,
}


@pytest.fixture(scope="module")
def photo():
    """61 x 47 pixels with slopes, grain and all but the extreme levels."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8))
    slopes = np.asarray(coarse.resize((61, 47), Image.Resampling.BICUBIC)) * 0.7
    return (slopes + rng.integers(20, 50, (47, 61, 3))).astype(np.uint8)


def pillow(name, image, m, sign):
    """The operation at strength m, from the table of the paper's ranges."""
    width, height = image.size
    affine = {
        "shear_x": (1, 0.3 * m * sign, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, 0.3 * m * sign, 1, 0),
        "translate_x": (1, 0, 0.45 * m * sign * width, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, 0.45 * m * sign * height),
    }
    bilinear = Image.Resampling.BILINEAR
    if name in affine:
        return image.transform(
            image.size, Image.Transform.AFFINE, affine[name], bilinear, fillcolor=FILL
        )
    if name in ("color", "contrast", "brightness", "sharpness"):
        enhance = getattr(ImageEnhance, name.capitalize())
        return enhance(image).enhance(1 + 0.9 * m * sign)
    return {
        "identity": lambda: image,
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "solarize": lambda: ImageOps.solarize(image, math.ceil(256 * (1 - m))),
        "posterize": lambda: ImageOps.posterize(image, 8 - round(4 * m)),
        "rotate": lambda: image.rotate(30 * m * sign, bilinear, fillcolor=FILL),
    }[name]()


@partial(jax.jit, static_argnames="magnitude")
def every_operation(image, signs, magnitude):
    """All operations with all signs, (14, 2, H, W, 3)."""

    def one(operation, sign):
        return apply_operation(image, operation, sign, magnitude, FILL)

    numbers = jnp.arange(len(OPERATIONS))
    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(numbers, signs)


def test_the_operations_are_the_papers_fourteen():
    assert set(OPERATIONS) == set(LEVELS)
    assert len(OPERATIONS) == 14


@pytest.mark.parametrize("magnitude", [0.0, 3.0, 9.0, 10.0])
def test_every_operation_equals_pillows(photo, magnitude):
    image = photo.astype(np.float32)
    results = np.asarray(every_operation(image, np.array([1.0, -1.0]), magnitude))
    assert results.dtype == np.float32
    assert results.min() >= 0 and results.max() <= 255
    for name, both in zip(OPERATIONS, results, strict=True):
        for sign, got in zip((1, -1), both, strict=True):
            want = np.asarray(
                pillow(name, Image.fromarray(photo), magnitude / 10, sign), float
            )
            assert np.abs(got - want).max() <= LEVELS[name], (name, sign)
            if magnitude == 0 and name not in ("autocontrast", "equalize"):
                np.testing.assert_array_equal(got, photo)
            elif magnitude >= 9 and name != "identity":
                assert np.abs(got - photo).max() > 5, (name, sign)


@pytest.mark.parametrize("operation", [autocontrast, equalize])
@pytest.mark.parametrize(
    "levels",
    [[77, 77, 77, 77], [10, 10, 10, 240], [0, 255, 255, 255], [5, 6, 7, 8]],
)
def test_images_of_few_levels_equal_pillows(operation, levels):
    column = np.array(levels, np.uint8)
    image = np.broadcast_to(column[:, None, None], (4, 300, 3)).copy()
    image[..., 1] = 9  # one channel is flat
    want = getattr(ImageOps, operation.__name__)(Image.fromarray(image))
    got = operation(jnp.asarray(image, jnp.float32))
    np.testing.assert_allclose(got, np.asarray(want), atol=1)


@pytest.fixture(scope="module")
def draws(photo):
    """The image after one operation and after two, for 2,000 keys, on a small part."""
    image = jnp.asarray(photo[5:25, 10:34], jnp.float32)

    def draw(key, num_ops):
        return rand_augment(image, key, num_ops=num_ops, magnitude=9.0, fill=FILL)

    keys = jax.random.split(jax.random.key(0), 2000)
    once, twice = (
        np.asarray(jax.jit(jax.vmap(partial(draw, num_ops=n)))(keys)) for n in (1, 2)
    )
    return np.asarray(image), once, twice


def which(results, image):
    """For each result the (operation, sign) that makes it of the image; each signless
    operation counts as its first sign."""
    cases = np.asarray(every_operation(image, np.array([1.0, -1.0]), 9.0))
    cases = cases.reshape(28, *image.shape)
    errors = np.abs(results[:, None] - cases).max((2, 3, 4))
    assert errors.min(1).max() < 1e-2
    return errors.argmin(1)


def test_operations_are_drawn_evenly_and_signs_are_fair(draws):
    image, once, _ = draws
    cases = which(once, image)
    counts = np.bincount(cases // 2, minlength=14)
    expected = len(once) / 14
    assert ((counts - expected) ** 2 / expected).sum() < 34.5  # chi2, 13 df, p = 0.001
    for number, name in enumerate(OPERATIONS):
        plus = (cases == 2 * number).sum()
        if name in ("identity", "autocontrast", "equalize", "solarize", "posterize"):
            assert plus == counts[number]
        else:
            assert abs(plus - counts[number] / 2) < 4 * np.sqrt(counts[number]) / 2


def test_the_second_operation_works_on_what_the_first_made(draws):
    image, once, twice = draws
    first = which(once, image)
    pairs = set()
    for before, after, drawn in zip(once[:150], twice[:150], first, strict=False):
        second = which(after[None], before)[0]
        pairs.add((drawn // 2 == second // 2, second // 2))
    assert len({second for _, second in pairs}) == 14
    assert {same for same, _ in pairs} == {True, False}


def test_augment_fills_with_the_mean_and_moves_before_it_colours():
    images = jnp.full((64, 20, 20, 3), 200, jnp.uint8)
    index = jnp.arange(64)
    options: dict[str, Any] = {
        "seed": 0,
        "flip": False,
        "color_jitter": "none",
        "mean": (50.0, 60.0, 70.0),
        "std": (1.0, 1.0, 1.0),
        "rand_augment_ops": 1,
    }

    def run(**more):
        jitted = jax.jit(lambda step: augment(images, index, step, **options, **more))
        return np.asarray(jitted(0))

    plain, noisy = run(pca_std=0.0), run(pca_std=0.1)
    outside = (plain == 0).all(-1)  # the mean, normalised
    assert 10 <= outside.any((1, 2)).sum() <= 40  # of 64, 5 of 14 operations move
    shift = (noisy - plain).reshape(64, -1, 3)
    np.testing.assert_allclose(
        shift, np.broadcast_to(shift[:, :1], shift.shape), atol=1e-3
    )
    assert (np.abs(shift[outside.any((1, 2))]).max((1, 2)) > 1e-3).all()
