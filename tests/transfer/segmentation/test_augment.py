"""Augmentation of images and masks: aligned, as by Pillow, and reproducible."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rtj.sharding import make_mesh, split
from rtj.transfer.segmentation.augment import Geometry, augment, cut, draw_geometry

MEAN, STD = (123.68, 116.779, 103.939), (58.393, 57.12, 57.375)
RAW: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
CROP, BASE = 48, 64
IGNORE = 255


def run(images, masks, index=None, step=3, seed=1, sizes=None, **options):
    options = {"base": BASE, "crop": CROP} | RAW | options
    index = np.arange(len(images)) if index is None else index
    sizes = full(masks) if sizes is None else np.asarray(sizes, np.int32)
    jitted = jax.jit(partial(augment, seed=seed, **options))
    out = jitted(images, masks, sizes, np.asarray(index, np.int32), np.int32(step))
    return jax.device_get(out)


def full(masks):
    return np.tile(np.asarray(masks.shape[1:], np.int32), (len(masks), 1))


@pytest.fixture
def masks():
    """Blocks of 12 pixels, a class each."""
    blocks = np.random.default_rng(0).integers(0, 20, (16, 5, 6))
    return blocks.repeat(12, axis=1).repeat(12, axis=2).astype(np.uint8)


@pytest.fixture
def images(masks):
    """Pixels that say which class the mask has there: (10, 5, 255 - 10) x class."""
    return np.stack([10 * masks, 5 * masks, 255 - 10 * masks], axis=-1)


def interior(mask):
    """Pixels whose 5 x 5 neighbourhood lies in the crop and has one label."""
    padded = np.pad(mask, 2, constant_values=-2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    return windows.min((-1, -2)) == windows.max((-1, -2))


def test_image_and_mask_stay_aligned(images, masks):
    got, labels = run(images, masks)
    assert got.shape == (16, CROP, CROP, 3) and got.dtype == np.float32
    assert labels.shape == (16, CROP, CROP) and labels.dtype == np.int32
    checked = 0
    for image, mask in zip(got, labels, strict=True):
        inside = interior(mask) & (mask != IGNORE)
        label = mask[inside]
        want = np.stack([10 * label, 5 * label, 255 - 10 * label], axis=-1)
        np.testing.assert_allclose(image[inside], want, atol=1e-2)
        checked += inside.sum()
    assert checked > 0.2 * labels.size


def test_labels_are_those_of_the_mask_and_padding_is_the_ignore_label(images, masks):
    for ignore_label in (IGNORE, -1):
        _, labels = run(images, masks, scale=(0.5, 0.5), ignore_label=ignore_label)
        for mask, label in zip(masks, labels, strict=True):
            assert set(np.unique(label)) <= {*np.unique(mask).tolist(), ignore_label}
        # 60 x 72 at half of the base is 27 x 32 pixels.
        assert (labels == ignore_label).sum() == 16 * (CROP**2 - 27 * 32)
        assert (labels[:, :27, :32] != ignore_label).all()


def test_padding_is_the_mean_colour(images, masks):
    got, labels = run(images, masks, scale=(0.5, 0.5), mean=MEAN, std=STD)
    assert not got[labels == IGNORE].any()
    raw, _ = run(images, masks, scale=(0.5, 0.5))
    want = (raw - np.asarray(MEAN)) / np.asarray(STD)
    inside = labels != IGNORE
    np.testing.assert_allclose(got[inside], want[inside], atol=1e-4)


@pytest.mark.parametrize(
    ("height", "width", "top", "left", "mirror"),
    [
        (60, 72, 0, 0, False),
        (60, 72, 12, 24, True),
        (30, 36, 0, 0, True),
        (101, 121, 40, 70, False),
        (120, 144, 72, 96, True),
        (44, 64, 0, 16, False),
    ],
)
def test_a_crop_is_what_pillow_resizes_and_cuts(height, width, top, left, mirror):
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (60, 72, 3), dtype=np.uint8)
    mask = rng.integers(0, 20, (60, 72), dtype=np.uint8)
    numbers = (jnp.asarray(x, jnp.int32) for x in (height, width, top, left))
    got, labels = take(
        image.astype(np.float32),
        mask,
        jnp.asarray(mask.shape),
        Geometry(jnp.asarray(mirror), *numbers),
    )

    def pillow(array, resample):
        turned = Image.fromarray(array[:, ::-1] if mirror else array)
        resized = np.asarray(turned.resize((width, height), resample))
        return resized[top : top + CROP, left : left + CROP]

    want_image = pillow(image, Image.Resampling.BILINEAR)
    want_mask = pillow(mask, Image.Resampling.NEAREST)
    rows, columns = want_mask.shape
    # Pillow rounds to whole levels after each of its two passes.
    np.testing.assert_allclose(got[:rows, :columns], want_image, atol=1.1)
    np.testing.assert_array_equal(labels[:rows, :columns], want_mask)
    assert (labels[rows:] == IGNORE).all() and (labels[:, columns:] == IGNORE).all()
    assert not got[rows:].any() and not got[:, columns:].any()


take = jax.jit(partial(cut, crop=CROP, ignore_label=IGNORE))


@jax.jit
def resample(image, scale, translation):
    return jax.image.scale_and_translate(
        image, (CROP, CROP, 3), (0, 1), scale, translation, "linear", antialias=True
    )


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    ("height", "width", "top", "left"),
    [(41, 53, 0, 0), (17, 20, 0, 0), (101, 131, 40, 70), (60, 72, 12, 24)],
)
def test_a_crop_from_a_canvas_is_that_of_the_image_alone(
    height, width, top, left, mirror
):
    rng = np.random.default_rng(3)
    # What lies beyond the image must not matter, so here it is noise as well.
    canvas = rng.normal(size=(64, 64, 3)).astype(np.float32)
    mask = rng.integers(0, 20, (64, 64), dtype=np.uint8)
    numbers = (jnp.asarray(x, jnp.int32) for x in (height, width, top, left))
    geometry = Geometry(jnp.asarray(mirror), *numbers)
    size = np.asarray([41, 53], np.int32)
    got, labels = take(canvas, mask, size, geometry)
    image = canvas[:41, :53][:, :: -1 if mirror else 1]
    alone = resample(
        image,
        jnp.asarray([height, width]) / size,
        -jnp.asarray([top, left], jnp.float32),
    )
    rows, columns = min(CROP, height - top), min(CROP, width - left)
    np.testing.assert_allclose(
        got[:rows, :columns], alone[:rows, :columns], atol=1e-5, rtol=0
    )
    assert not got[rows:].any() and not got[:, columns:].any()
    unmirrored = geometry._replace(mirror=jnp.asarray(False))
    want = take(image, mask[:41, :53][:, :: -1 if mirror else 1], size, unmirrored)[1]
    np.testing.assert_array_equal(labels, want)


@pytest.mark.slow
def test_images_of_several_sizes_on_one_canvas_are_augmented_as_each_alone():
    rng = np.random.default_rng(4)
    sizes = [(60, 72), (30, 25)]
    images = rng.integers(0, 256, (2, 72, 72, 3), dtype=np.uint8)
    masks = rng.integers(0, 20, (2, 72, 72), dtype=np.uint8)
    for step in range(3):
        got, labels = run(images, masks, sizes=sizes, step=step)
        for k, (height, width) in enumerate(sizes):
            alone = (
                images[k : k + 1, :height, :width],
                masks[k : k + 1, :height, :width],
            )
            image, label = run(*alone, index=[k], step=step)
            np.testing.assert_allclose(got[k], image[0], atol=0.02)
            np.testing.assert_array_equal(labels[k], label[0])


@pytest.fixture(scope="module")
def drawn():
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = partial(draw_geometry, base=BASE, crop=CROP, scale=(0.5, 2.0), flip=True)
    jitted = jax.jit(jax.vmap(draw, (0, None)))
    return jax.device_get(jitted(keys, np.asarray([60, 72], np.int32)))


def test_the_long_side_is_uniform_in_half_to_twice_the_base(drawn):
    assert drawn.width.min() >= 32 and drawn.width.max() <= 128
    counts, _ = np.histogram(drawn.width, bins=8, range=(31.5, 128.5))
    assert (np.abs(counts - 500) < 5 * np.sqrt(500)).all()
    np.testing.assert_allclose(drawn.height, drawn.width * 60 / 72, atol=1)


def test_crops_lie_anywhere_inside_and_start_at_0_where_there_is_padding(drawn):
    for start, side in ((drawn.top, drawn.height), (drawn.left, drawn.width)):
        slack = np.maximum(side - CROP, 0)
        assert (start >= 0).all() and (start <= slack).all()
        wide = slack > 20
        fraction = start[wide] / slack[wide]
        assert abs(fraction.mean() - 0.5) < 0.05
        assert (start == slack)[wide].any() and (start == 0)[wide].any()


def test_half_of_the_images_are_mirrored_and_none_without_flip(drawn, images, masks):
    assert abs(drawn.mirror.mean() - 0.5) < 0.04
    asymmetric = np.zeros_like(masks)
    asymmetric[:, :, 36:] = 1
    same = {"scale": (72 / BASE, 72 / BASE), "crop": 72}
    _, kept = run(images, asymmetric, flip=False, **same)
    np.testing.assert_array_equal(kept[:, :60], asymmetric)
    _, turned = run(images, asymmetric, **same)
    mirrored = turned[:, 0, 0] == 1
    assert 2 < mirrored.sum() < 14
    np.testing.assert_array_equal(turned[mirrored, :60], asymmetric[mirrored, :, ::-1])


def test_an_example_does_not_depend_on_its_place_in_the_batch(images, masks):
    index = np.arange(100, 116)
    whole = run(images, masks, index)
    order = np.random.default_rng(1).permutation(16)[:5]
    got, labels = run(images[order], masks[order], index[order])
    np.testing.assert_allclose(got, whole[0][order], atol=1e-3)
    np.testing.assert_array_equal(labels, whole[1][order])


def test_seed_step_and_index_each_change_the_crop(images, masks):
    _, base = run(images, masks)
    np.testing.assert_array_equal(run(images, masks)[1], base)
    for change in ({"seed": 2}, {"step": 4}, {"index": np.arange(16) + 16}):
        _, other = run(images, masks, **change)
        assert (other != base).any(axis=(1, 2)).all(), change


def test_eight_devices_augment_as_one_and_exchange_nothing(images, masks):
    spread = split(make_mesh(8))
    index = np.arange(16, dtype=np.int32)
    arguments = jax.device_put((images, masks, full(masks), index), spread)
    jitted = jax.jit(partial(augment, seed=1, base=BASE, crop=CROP, **RAW))
    got, labels = jitted(*arguments, np.int32(3))
    assert got.sharding.is_equivalent_to(spread, 4)
    program = jitted.lower(*arguments, np.int32(3)).compile()
    assert "all-" not in str(program.as_text())
    one = run(images, masks)
    np.testing.assert_allclose(got, one[0], atol=1e-3)
    np.testing.assert_array_equal(labels, one[1])
