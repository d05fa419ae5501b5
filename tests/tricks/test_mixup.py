"""Mixup and CutMix against NumPy, scipy's Beta distribution and closed forms."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import stats

from rtj.classification import Classification
from rtj.config import check
from rtj.errors import ConfigError
from rtj.parts import make_mixing
from rtj.sharding import make_mesh, split
from rtj.tricks.label_smoothing import smooth_labels
from rtj.tricks.low_precision import POLICIES, matmul_precision
from rtj.tricks.mixup import Mixing, cutmix_box, lambda_keys, mix

ROWS, HEIGHT, WIDTH = 16, 11, 14
FOREVER = 10**6


def mixing(mixup=0.2, cutmix=0.0, per="step", group_size=8, stop_step=FOREVER):
    return Mixing(mixup, cutmix, per, group_size, stop_step)


@pytest.fixture(scope="module")
def batch():
    """Images, one class a row (a target shows who is in it, and how much), labels
    and indices."""
    images = np.random.default_rng(0).normal(size=(ROWS, HEIGHT, WIDTH, 3))
    labels = np.arange(ROWS, dtype=np.int32)
    return (
        images.astype(np.float32),
        np.eye(ROWS, dtype=np.float32),
        labels,
        (100 + 7 * labels).astype(np.int32),
    )


@partial(jax.jit, static_argnames="how")
def mixed(images, targets, labels, index, step, seed, copy=None, *, how):
    keys = lambda_keys(jax.random.key(seed), step, index, copy, how.per)
    return mix(images, targets, labels, keys, step, how)


def run(batch, how, step=5, seed=0, copy=None):
    return [np.asarray(part) for part in mixed(*batch, step, seed, copy, how=how)]


def partners(group_size, rows=ROWS):
    """Row g - 1 - i of each group, one row at a time."""
    size = group_size or rows
    return np.array([i - i % size + size - 1 - i % size for i in range(rows)])


@pytest.mark.parametrize(
    ("per", "group_size"), [("step", 8), ("step", 0), ("example", 2)]
)
def test_mixtures_equal_numpys(batch, per, group_size):
    images, targets, labels, _ = batch
    how = mixing(mixup=1.0, per=per, group_size=group_size)
    got, shares, larger = run(batch, how)
    lam, other = np.diag(shares).astype(np.float64), partners(group_size)
    assert len(set(lam)) == (1 if per == "step" else ROWS)
    weight = lam[:, None, None, None]
    want = weight * images + (1 - weight) * images[other]
    np.testing.assert_allclose(got, want, atol=1e-6)
    column = lam[:, None]
    np.testing.assert_allclose(
        shares, column * targets + (1 - column) * targets[other], atol=1e-6
    )
    np.testing.assert_array_equal(larger, np.where(lam >= 0.5, labels, labels[other]))


def test_the_middle_of_an_odd_group_is_its_own_partner(batch):
    three = [part[:3] for part in batch]
    got, shares, larger = run(three, mixing(group_size=3))
    np.testing.assert_allclose(got[1], batch[0][1], atol=1e-6)
    np.testing.assert_allclose(shares[1], batch[1][1], atol=1e-6)
    assert larger[1] == 1


@pytest.mark.parametrize(("kind", "alpha"), [("step", 0.2), ("example", 1.0)])
def test_lambda_follows_the_beta_distribution(alpha, kind):
    count = 20_000
    images, targets, labels = jnp.zeros((2, 1, 1, 1)), jnp.eye(2), jnp.arange(2)
    how = mixing(mixup=alpha, per=kind, group_size=0)

    def own_share(number):
        step, first = (number, 0) if kind == "step" else (3, 2 * number)
        return mixed(images, targets, labels, first + labels, step, 1, how=how)[1][0, 0]

    lam = np.asarray(jax.jit(jax.vmap(own_share))(jnp.arange(count)), np.float64)
    assert lam.min() >= 0 and lam.max() <= 1
    # 1.6 % of Beta(0.2, 0.2) lies between 1 and the float32 below it, and is rounded.
    tail = np.logspace(-6, -2, 400)
    places = np.concatenate([tail, np.linspace(0.01, 0.99, 4001), 1 - tail])
    below = np.searchsorted(np.sort(lam), places, side="right") / count
    distance = np.abs(below - stats.beta.cdf(places, alpha, alpha)).max()
    assert distance < stats.kstwo.isf(1e-3, count)


def test_a_lambda_of_the_step_depends_on_seed_and_step_alone(batch):
    def lam(rows, step=5, seed=0):
        shares = run([part[rows] for part in batch], mixing(group_size=2), step, seed)
        return shares[1][0].max()

    first = lam(slice(0, 16))
    assert lam(slice(4, 6)) == first
    assert len({first, lam(slice(0, 16), step=6), lam(slice(0, 16), seed=1)}) == 3


def test_a_lambda_of_an_example_follows_it_through_the_batch(batch):
    how = mixing(mixup=1.0, per="example", group_size=2)
    first = np.diag(run(batch, how)[1])
    order = np.random.default_rng(1).permutation(ROWS)
    images, targets, labels, index = batch
    moved = run((images, targets, labels, index[order]), how)[1]
    np.testing.assert_array_equal(np.diag(moved), first[order])
    for change in ({"step": 6}, {"seed": 1}, {"copy": np.ones(ROWS, np.int32)}):
        assert (np.diag(run(batch, how, **change)[1]) != first).all()


@pytest.mark.parametrize("form", ["paper", "uniform"])
def test_mixed_smoothed_labels_have_the_closed_form_and_mass_one(batch, form):
    eps, classes = 0.1, 5
    labels = np.arange(ROWS, dtype=np.int32) % 3  # in a group of 8, rows 1 and 6 agree
    lam = run(batch, mixing())[1][0, 0]
    targets = smooth_labels(jnp.asarray(labels), classes, eps, form)
    got = run((batch[0], targets, labels, batch[3]), mixing())[1]
    off = eps / (classes - 1) if form == "paper" else eps / classes
    on = 1 - eps if form == "paper" else 1 - eps + off
    for row, other in enumerate(partners(8)):
        for k in range(classes):
            one_hot = lam * (k == labels[row]) + (1 - lam) * (k == labels[other])
            want = off + (on - off) * one_hot
            assert got[row, k] == pytest.approx(want, abs=1e-6)
    np.testing.assert_allclose(got.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("group_size", [4, 0])
def test_any_number_of_devices_gives_the_same_mixtures(batch, group_size):
    how = mixing(mixup=1.0, per="example", group_size=group_size)
    want = run(batch, how)
    for devices in (1, 2, 4, 8):
        spread = split(make_mesh(devices))
        shared = [jax.device_put(part, spread) for part in batch]
        for got, alone in zip(mixed(*shared, 5, 0, how=how), want, strict=True):
            np.testing.assert_allclose(got, alone, atol=1e-6)


@pytest.mark.parametrize("per", ["step", "example"])
def test_devices_that_hold_whole_groups_exchange_nothing(batch, per):
    spread = split(make_mesh(8))
    shared = [jax.device_put(part, spread) for part in batch]
    how = mixing(mixup=0.2, cutmix=1.0, per=per, group_size=2)
    program = mixed.lower(*shared, 5, 0, how=how).compile().as_text() or ""
    assert "all-" not in program and "collective-" not in program


def is_own(got, own, other):
    """(H, W) bool, where the mixture is its own image; elsewhere it is the other's."""
    mine = np.all(got == own, axis=-1)
    assert (np.all(got == other, axis=-1) | mine).all()
    return mine


def test_cutmix_pastes_a_box_and_gives_its_share_of_pixels_to_the_label(batch):
    images, other = batch[0], partners(8)
    how = mixing(mixup=0.0, cutmix=1.0, per="example")
    seen = set()
    for step in range(8):
        got, shares, larger = run(batch, how, step)
        for row in range(ROWS):
            own = is_own(got[row], images[row], images[other[row]])
            rows, columns = (~own).any(1), (~own).any(0)
            np.testing.assert_array_equal(~own, rows[:, None] & columns[None, :])
            for line in (rows, columns):  # without a gap
                assert np.abs(np.diff(line.astype(int))).sum() <= 2
            share = own.sum() / (HEIGHT * WIDTH)
            assert shares[row, row] == pytest.approx(share, abs=1e-6)
            assert shares[row, other[row]] == pytest.approx(1 - share, abs=1e-6)
            assert larger[row] == (row if share >= 0.5 else other[row])
            seen.add(int(own.sum()))
    assert len(seen) > 30


@pytest.mark.parametrize(("lam", "sides"), [(0.75, (20, 30)), (0.0, (40, 60))])
def test_cutmix_boxes_have_the_sides_of_the_formula_before_they_are_cut(lam, sides):
    keys = jax.random.split(jax.random.key(0), 500)
    boxes = np.asarray(
        jax.vmap(lambda k: cutmix_box(k, jnp.float32(lam), 40, 60))(keys)
    )
    for axis, side in ((2, sides[0]), (1, sides[1])):
        lines = np.any(boxes, axis=axis)
        size = lines.shape[1]
        inside = ~lines[:, 0] & ~lines[:, -1]
        assert (lines.sum(1)[inside] == side).all()
        assert (lines.sum(1) <= side).all()
        # The centre is anywhere in the image, so at the border half of a side is cut.
        assert lines.sum(1).min() <= side // 2 + size // 50
        np.testing.assert_allclose(lines.mean(0), lines.mean(0)[::-1], atol=0.12)


def test_cutmix_at_lambda_one_cuts_nothing():
    assert not cutmix_box(jax.random.key(0), jnp.float32(1), 8, 8).any()


@pytest.mark.parametrize("per", ["step", "example"])
def test_with_both_on_a_fair_coin_decides(per):
    images = jnp.stack([jnp.zeros((8, 8, 1)), jnp.ones((8, 8, 1))])
    targets, labels = jnp.eye(2), jnp.arange(2)
    how = mixing(mixup=1.0, cutmix=1.0, per=per, group_size=0)
    count = 4000

    def blended(step):
        got = mixed(images, targets, labels, labels, step, 0, how=how)[0]
        return jnp.any((got > 0) & (got < 1), axis=(1, 2, 3))

    coins = np.asarray(jax.jit(jax.vmap(blended))(jnp.arange(count)))
    assert abs(coins.mean(0) - 0.5).max() < 4 * 0.5 / np.sqrt(count)
    agree = (coins[:, 0] == coins[:, 1]).mean()
    assert agree == 1 if per == "step" else abs(agree - 0.5) < 4 * 0.5 / np.sqrt(count)


@pytest.mark.parametrize("cutmix", [0.0, 1.0])
def test_mixing_stops_at_its_stop_step_in_the_same_program(batch, cutmix):
    how = mixing(mixup=1.0, cutmix=cutmix, stop_step=7)
    program = mixed.lower(*batch, 0, 0, how=how).compile()
    assert (program(*batch, 6, 0)[1] != batch[1]).any()
    for step in (7, 8):
        for got, own in zip(program(*batch, step, 0), batch[:3], strict=True):
            np.testing.assert_array_equal(got, own)


def test_the_off_epochs_are_the_last_ones_of_the_run(tiny_config):
    config = tiny_config("mixup", **{"tricks.mixup_off_epochs": 2.0})
    how = make_mixing(config, steps_per_epoch=31.25, total_steps=750)
    assert how is not None and how.stop_step == 750 - 62
    assert (how.mixup, how.cutmix, how.per, how.group_size) == (0.2, 0, "step", 8)
    config.tricks.mixup_off_epochs = 0.0
    how = make_mixing(config, steps_per_epoch=31.25, total_steps=750)
    assert how is not None and how.stop_step == 750
    config.tricks.mixup = 0.0
    assert make_mixing(config, steps_per_epoch=31.25, total_steps=750) is None


@pytest.mark.parametrize("field", ["tricks.mixup", "tricks.cutmix"])
def test_a_group_of_one_has_no_partner_and_is_an_error(tiny_config, field):
    config = tiny_config(**{"model.bn_group_size": 1, field: 0.2})
    with pytest.raises(ConfigError, match=r"bn_group_size=1 leaves one .* 2 or more"):
        check(config)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_images_and_labels_are_mixed_in_float32_in_every_precision(precision):
    rng = np.random.default_rng(0)
    rows = {
        "image": rng.integers(0, 256, (8, 4, 4, 3), dtype=np.uint8),
        "label": np.arange(8, dtype=np.int32),
        "index": np.arange(8, dtype=np.int32),
    }
    mean, std = np.array([120.0, 110.0, 100.0]), np.array([50.0, 60.0, 70.0])
    loss = Classification(
        model=nn.Dense(10),
        num_classes=10,
        seed=0,
        eps=0.1,
        form="paper",
        augment={
            "flip": False,
            "color_jitter": "none",
            "pca_std": 0.0,
            "mean": tuple(mean),
            "std": tuple(std),
        },
        mixing=mixing(mixup=1.0),
    )
    with matmul_precision(POLICIES[precision]):
        images, targets, labels = jax.jit(
            lambda batch: loss.inputs(batch, jnp.int32(2))
        )(rows)
    assert images.dtype == targets.dtype == jnp.float32
    assert labels.dtype == jnp.int32
    # Row 0 holds off + (on - off) lambda of label 0: lambda, to float32's precision.
    lam = (float(targets[0, 0]) - 0.1 / 9) / (0.9 - 0.1 / 9)
    assert 0.02 < lam < 0.98
    normal = (rows["image"] - mean) / std
    want = lam * normal + (1 - lam) * normal[::-1]
    np.testing.assert_allclose(images, want, atol=2e-6)
