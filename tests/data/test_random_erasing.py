"""Random erasing: where, how large, how often, and with what."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rtj.data.augment import augment
from rtj.data.random_erasing import erased_box, random_erasing

COUNT, HEIGHT, WIDTH = 3000, 120, 160


@pytest.fixture(scope="module")
def boxes():
    """(top, left, height, width) of 3,000 boxes, each one full rectangle."""
    keys = jax.random.split(jax.random.key(0), COUNT)

    def lines(key):
        box = erased_box(key, HEIGHT, WIDTH)
        rows, columns = box.any(1), box.any(0)
        return rows, columns, jnp.array_equal(box, rows[:, None] & columns[None, :])

    rows, columns, full = (np.asarray(x) for x in jax.jit(jax.vmap(lines))(keys))
    assert full.all()
    for line in (rows, columns):
        edges = np.abs(np.diff(np.pad(line.astype(int), ((0, 0), (1, 1))))).sum(1)
        assert (edges == 2).all()  # not empty, no gap
    return np.stack([rows.argmax(1), columns.argmax(1), rows.sum(1), columns.sum(1)])


def test_area_and_ratio_are_in_the_papers_ranges(boxes):
    _, _, height, width = boxes
    assert (height < HEIGHT).all() and (width < WIDTH).all()
    area = height * width / (HEIGHT * WIDTH)
    assert 0.019 < area.min() < 0.021 and 0.32 < area.max() < 0.34
    ratio = height / width
    assert 0.29 < ratio.min() < 0.31 and 3.2 < ratio.max() < 3.5


def test_area_is_uniform_and_ratio_log_uniform(boxes):
    _, _, height, width = boxes
    area = height * width / (HEIGHT * WIDTH)
    # Below this area every ratio fits, so that no draw is repeated: the tallest box
    # has a height of sqrt(area * 160 / 120 / 0.3) of the image's.
    free = area < 0.3 * HEIGHT / WIDTH
    assert free.sum() > 1000
    low, high = np.log(0.3), np.log(1 / 0.3)
    ratios = stats.kstest(
        np.log(height / width)[free], stats.uniform(low, high - low).cdf
    )
    areas = stats.kstest(area[free], stats.uniform(0.02, 0.3 * 0.75 - 0.02).cdf)
    assert ratios.pvalue > 1e-3 and areas.pvalue > 1e-3


def test_every_place_inside_the_image_is_as_likely(boxes):
    top, left, height, width = boxes
    for start, side, size in ((top, height, HEIGHT), (left, width, WIDTH)):
        room = size - side
        assert (start >= 0).all() and (start <= room).all()
        assert (start == 0).any() and (start == room).any()
        # A uniform number in [0, 1) whose whole part of (room + 1) times it is start.
        spread = np.random.default_rng(0).uniform(size=COUNT)
        places = (start + spread) / (room + 1)
        assert stats.kstest(places, stats.uniform.cdf).pvalue > 1e-3


def erased(image, fill, probability=1.0, count=400):
    keys = jax.random.split(jax.random.key(1), count)
    erase = jax.jit(
        jax.vmap(lambda k: random_erasing(jnp.asarray(image), k, probability, fill))
    )
    return np.asarray(erase(keys))


@pytest.fixture
def image():
    return np.random.default_rng(0).uniform(5, 6, (24, 32, 3)).astype(np.float32)


@pytest.mark.parametrize("fill", ["noise", "zero"])
def test_inside_is_noise_or_zero_and_outside_is_untouched(image, fill):
    results = erased(image, fill)
    assert results.dtype == np.float32
    changed = (results != image).any(-1)
    assert changed.any((1, 2)).all()
    inside = results[changed]
    if fill == "zero":
        assert (inside == 0).all()
        return
    for channel in inside.T:
        assert stats.kstest(channel, stats.norm.cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(inside.T) - np.eye(3)).max() < 4 / np.sqrt(len(inside))
    first, second = inside[:-1, 0], inside[1:, 0]  # each pixel has its own
    assert abs(np.corrcoef(first, second)[0, 1]) < 4 / np.sqrt(len(first))


def test_images_are_erased_with_the_given_probability(image):
    count = 4000
    hit = (erased(image[:8, :8], "zero", 0.25, count) == 0).any((1, 2, 3)).mean()
    assert abs(hit - 0.25) < 4 * np.sqrt(0.25 * 0.75 / count)


def test_augment_erases_last_after_normalisation():
    images = jnp.full((32, 16, 16, 3), 250, jnp.uint8)
    index = jnp.arange(32)
    options: dict[str, Any] = {
        "seed": 0,
        "flip": False,
        "color_jitter": "none",
        "pca_std": 0.1,
        "mean": (50.0, 60.0, 70.0),
        "std": (20.0, 25.0, 30.0),
    }

    def run(**more):
        jitted = jax.jit(lambda step: augment(images, index, step, **options, **more))
        return np.asarray(jitted(3))

    plain, zeroed = run(), run(erasing=1.0, erasing_fill="zero")
    inside = (zeroed == 0).all(-1)
    assert inside.any((1, 2)).all()
    np.testing.assert_array_equal(zeroed[~inside], plain[~inside])
    noisy = run(erasing=1.0)
    np.testing.assert_array_equal((noisy != plain).any(-1), inside)
    assert abs(noisy[inside].std() - 1) < 0.05
