"""Augmentation against NumPy and colorsys."""

import colorsys
import itertools
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.data import augment as aug
from rtj.data import color_jitter

MEAN, STD = (123.68, 116.779, 103.939), (58.393, 57.12, 57.375)
OFF = {"flip": False, "color_jitter": "none", "pca_std": 0.0, "mean": MEAN, "std": STD}
RAW = OFF | {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (16, 6, 5, 3), dtype=np.uint8)


@pytest.fixture
def float_image(images):
    image = images[0].astype(np.float32)
    image[0] = [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]
    image[1] = [[90, 90, 90], [255, 255, 0], [0, 255, 255], [255, 0, 255], [9, 9, 8]]
    return image


def run(images, index=None, step=3, seed=1, **options):
    index = np.arange(len(images)) if index is None else index
    jitted = jax.jit(lambda i, n, s: aug.augment(i, n, s, seed=seed, **options))
    return np.asarray(jitted(images, np.asarray(index, np.int32), np.int32(step)))


def test_normalisation_alone(images):
    got = run(images, **OFF)
    assert got.dtype == np.float32
    want = (images - np.asarray(MEAN)) / np.asarray(STD)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_flip_mirrors_about_half_of_the_images_left_to_right():
    row = np.arange(8, dtype=np.uint8)
    images = np.broadcast_to(row[None, None, :, None], (2000, 2, 8, 3))
    got = run(images, **(RAW | {"flip": True}))
    flipped = got[:, 0, 0, 0] == 7
    np.testing.assert_array_equal(
        got[flipped][:, 0, :, 1], np.tile(row[::-1], (flipped.sum(), 1))
    )
    np.testing.assert_array_equal(
        got[~flipped][:, 1, :, 2], np.tile(row, ((~flipped).sum(), 1))
    )
    assert abs(flipped.mean() - 0.5) < 4 * 0.5 / np.sqrt(2000)


def test_hsv_conversion_equals_colorsys(float_image):
    h, s, v = (
        np.asarray(x).ravel() for x in color_jitter.rgb_to_hsv(jnp.asarray(float_image))
    )
    want = [colorsys.rgb_to_hsv(*(p / 255)) for p in float_image.reshape(-1, 3)]
    np.testing.assert_allclose(np.stack([h, s, v / 255], 1), want, atol=1e-5)


@pytest.mark.parametrize(
    "factors",
    [(1, 1, 1), (0.6, 1, 1), (1.4, 1, 1), (1, 1.4, 1), (1, 1, 0.6), (1.2, 0.7, 1.4)],
)
def test_hsb_scaling_equals_colorsys(float_image, factors):
    got = np.asarray(color_jitter.scale_hsb(jnp.asarray(float_image), *factors))
    want = []
    for pixel in float_image.reshape(-1, 3) / 255:
        h, s, v = colorsys.rgb_to_hsv(*pixel.tolist())
        h, s, v = h * factors[0] % 1, min(s * factors[1], 1), min(v * factors[2], 1)
        want.append(colorsys.hsv_to_rgb(h, s, v))
    np.testing.assert_allclose(got.reshape(-1, 3) / 255, want, atol=1e-5)


def reference_bcs(image, factors, order):
    """NumPy, one operation at a time, clipped after each."""
    image = image.astype(np.float64)
    for operation in order:
        grey = image @ np.array([0.299, 0.587, 0.114])
        target = (
            np.zeros_like(image),
            np.full_like(image, grey.mean()),
            np.repeat(grey[..., None], 3, axis=-1),
        )[operation]
        factor = factors[operation]
        image = np.clip(factor * image + (1 - factor) * target, 0, 255)
    return image


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_bcs_equals_numpy_in_every_order(float_image, order):
    factors = np.array([1.4, 0.65, 1.3], np.float32)
    got = color_jitter.blend_bcs(
        jnp.asarray(float_image), jnp.asarray(factors), jnp.asarray(order)
    )
    want = reference_bcs(float_image, factors, order)
    np.testing.assert_allclose(np.asarray(got), want, atol=1e-3)


def test_bcs_uses_every_order_of_the_operations():
    keys = jax.random.split(jax.random.key(0), 600)
    image = jnp.asarray([[[200.0, 30.0, 90.0], [10.0, 250.0, 60.0]]])
    got = np.asarray(
        jax.vmap(color_jitter.jitter_bcs, (None, 0, None))(image, keys, 0.4)
    )
    factor_keys = jax.vmap(lambda k: jax.random.split(k)[0])(keys)
    factors = np.asarray(
        jax.vmap(lambda k: color_jitter.jitter_factors(k, 0.4))(factor_keys)
    )
    orders = list(itertools.permutations(range(3)))
    seen = np.zeros(6, int)
    for result, factor in zip(got, factors, strict=True):
        errors = [
            np.abs(reference_bcs(np.asarray(image), factor, o) - result).max()
            for o in orders
        ]
        assert min(errors) < 1e-2
        seen[int(np.argmin(errors))] += 1
    assert (seen > 30).all()


def test_jitter_factors_are_uniform_in_the_paper_range():
    keys = jax.random.split(jax.random.key(4), 4000)
    factors = np.asarray(jax.vmap(lambda k: color_jitter.jitter_factors(k, 0.4))(keys))
    assert factors.min() >= 0.6 and factors.max() <= 1.4
    np.testing.assert_allclose(factors.mean(0), 1.0, atol=4 * 0.231 / np.sqrt(4000))
    np.testing.assert_allclose(factors.std(0), 0.8 / np.sqrt(12), rtol=0.03)
    assert np.abs(np.corrcoef(factors.T) - np.eye(3)).max() < 4 / np.sqrt(4000)


def test_pca_noise_has_the_closed_form_spread_and_mean_zero():
    count = 20_000
    keys = jax.random.split(jax.random.key(2), count)
    noise = np.asarray(jax.vmap(lambda k: aug.pca_noise(k, 0.1))(keys), np.float64)
    # AlexNet's values (0-255 scale) as printed in MXNet, written out again here.
    values = np.array([55.46, 4.794, 1.148])
    red, green, blue = (
        (-0.5675, 0.7192, 0.4009),
        (-0.5808, -0.0045, -0.814),
        (
            -0.5836,
            -0.6948,
            0.4203,
        ),
    )
    vectors = np.array([red, green, blue])
    std = 0.1 * np.sqrt(((vectors * values) ** 2).sum(1))
    np.testing.assert_allclose(noise.std(0), std, rtol=0.02)
    np.testing.assert_allclose(std, [3.166, 3.223, 3.254], atol=2e-3)
    assert (np.abs(noise.mean(0)) < 4 * std / np.sqrt(count)).all()
    # Back in the eigenbasis the coefficients are N(0, 0.1) and independent; with
    # channels in another order the small eigenvalues would blow them up.
    alpha = noise @ np.linalg.inv(vectors).T / values
    np.testing.assert_allclose(alpha.std(0), 0.1, rtol=0.02)
    assert np.abs(np.corrcoef(alpha.T) - np.eye(3)).max() < 4 / np.sqrt(count)
    # Normal, not uniform (tensorpack #1085): 4.55 % lie beyond two deviations.
    np.testing.assert_allclose((np.abs(alpha) > 0.2).mean(0), 0.0455, atol=0.006)


def test_pca_noise_is_one_colour_an_image_and_does_not_wrap_around():
    images = np.zeros((64, 3, 4, 3), np.uint8)
    images[32:] = 255
    shift = run(images, **(RAW | {"pca_std": 0.1})) - images
    np.testing.assert_allclose(
        shift, np.broadcast_to(shift[:, :1, :1], shift.shape), atol=1e-4
    )
    assert np.abs(shift).max() < 30
    assert (shift[:32] < -0.1).any() and (shift[32:] > 0.1).any()


# One operation, which works on whole levels: after a second one, equalize could round
# a difference in the last bit to another level.
BEYOND = {"rand_augment_ops": 1, "erasing": 0.5}


@pytest.mark.parametrize(
    "more", [{"color_jitter": "hsb"}, {"color_jitter": "bcs"}, BEYOND]
)
def test_an_example_does_not_depend_on_its_place_in_the_batch(images, more):
    options = OFF | {"flip": True, "pca_std": 0.1} | more
    index = np.arange(100, 116)
    whole = run(images, index, **options)
    order = np.random.default_rng(1).permutation(16)[:5]
    np.testing.assert_allclose(
        run(images[order], index[order], **options), whole[order], atol=1e-5
    )


def test_seed_step_and_index_each_change_the_augmentation(images):
    options = OFF | {"color_jitter": "hsb"}
    base = run(images, **options)
    np.testing.assert_array_equal(run(images, **options), base)
    for change in ({"seed": 2}, {"step": 4}, {"index": np.arange(16) + 16}):
        other = run(images, **change, **options)
        assert (np.abs(other - base).reshape(16, -1).max(1) > 1e-3).all(), change


@pytest.mark.parametrize("jitter", ["hsb", "bcs"])
def test_jittered_images_stay_in_range(images, jitter):
    got = run(images, **(RAW | {"color_jitter": jitter, "jitter_strength": 1.0}))
    assert got.min() >= 0 and got.max() <= 255


def test_turning_one_step_off_leaves_the_others_as_they_were(images):
    plain = run(images, **(RAW | {"flip": True}))
    noisy = run(images, **(RAW | {"flip": True, "pca_std": 0.1}))
    shift = (noisy - plain).reshape(16, -1, 3)
    np.testing.assert_allclose(
        shift, np.broadcast_to(shift[:, :1], shift.shape), atol=1e-4
    )


def test_an_unknown_jitter_is_an_error(images):
    with pytest.raises(ValueError, match="'none', 'hsb' or 'bcs'"):
        run(images, **(OFF | {"color_jitter": "hue"}))


EIGHT_DEVICES = """
import sys
import jax, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rtj.data import augment
assert jax.device_count() == 8
images, index = (np.load(sys.argv[1])[key] for key in ("images", "index"))
split = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
images, index = jax.device_put((images, index), split)
run = jax.jit(lambda i, n: augment.augment(
    i, n, np.int32(3), seed=1, flip=True, color_jitter="hsb", pca_std=0.1,
    mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), rand_augment_ops=1, erasing=0.5))
out = run(images, index)
assert out.sharding.is_equivalent_to(split, 4)
assert "all-" not in run.lower(images, index).compile().as_text()
np.save(sys.argv[2], out)
"""


def test_eight_devices_augment_as_one_and_exchange_nothing(images, tmp_path):
    index = np.arange(16, dtype=np.int32) * 3
    np.savez(tmp_path / "in.npz", images=images, index=index)
    paths = [str(tmp_path / "in.npz"), str(tmp_path / "out.npy")]
    # In a process of its own, with the eight devices and compiler flags of this one.
    subprocess.run([sys.executable, "-c", EIGHT_DEVICES, *paths], check=True)
    options = RAW | BEYOND | {"flip": True, "color_jitter": "hsb", "pca_std": 0.1}
    one = run(images, index, **options)
    np.testing.assert_allclose(np.load(paths[1]), one, atol=1e-3)
