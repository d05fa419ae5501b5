"""The steps: the same for any number of devices, micro-batches, and overflow."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rtj.classification import rank_of_label
from rtj.config import set_field
from rtj.data.augment import augment
from rtj.experiment import build
from rtj.inputs import training_batches
from rtj.sharding import device_batches, make_mesh, split
from rtj.state import TrainState
from rtj.step_options import StepOptions
from rtj.steps import train_step
from rtj.tricks.low_precision import POLICIES

# At higher rates training itself multiplies a difference in the last bit: one ReLU
# that flips makes 1e-2 of it in 20 steps at a rate of 0.1.
CALM = {"tricks.base_lr": 0.001, "tricks.warmup_epochs": 0.0, "model.width": 8}
# Both at once, so that a program holds all there is to mixing.
MIXING = {"tricks.mixup": 0.2, "tricks.cutmix": 1.0, "tricks.mixup_lambda": "example"}


def losses(config, steps=20):
    """(losses, ids) of the first steps of a run, through the real pipeline."""
    set_field(config, "train.steps", steps)
    experiment = build(config)
    state = experiment.init_state()
    batches = training_batches(experiment, 0)
    seen, ids = [], []
    for batch in device_batches(batches, experiment.mesh):
        state, metrics = experiment.train_step(state, batch)
        seen.append(float(metrics["loss"]))
        ids.append(np.asarray(batch["index"]))
    return np.array(seen), np.array(ids)


@pytest.mark.slow
@pytest.mark.parametrize("group", [8, 32, 0])
def test_one_and_eight_devices_see_the_same_examples_and_losses(tiny_config, group):
    runs = [
        losses(tiny_config(**CALM, **{"mesh.devices": n, "model.bn_group_size": group}))
        for n in (1, 8)
    ]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    np.testing.assert_allclose(runs[0][0], runs[1][0], atol=1e-5)


@pytest.mark.slow
def test_the_size_of_a_batch_norm_group_matters(tiny_config):
    small, whole = (
        losses(tiny_config(**{"model.bn_group_size": g}), steps=3)[0] for g in (8, 0)
    )
    assert np.abs(small - whole).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("devices", [pytest.param(1, marks=pytest.mark.exhaustive), 8])
def test_four_micro_batches_of_eight_are_a_batch_of_thirty_two(tiny_config, devices):
    changes = CALM | {"mesh.devices": devices}
    whole, parts = (
        losses(tiny_config(**changes, **{"train.accumulate": n}), steps=4)[0]
        for n in (1, 4)
    )
    np.testing.assert_allclose(whole, parts, atol=1e-5)


@pytest.mark.slow
def test_micro_batches_are_mixed_as_the_whole_batch_is(tiny_config):
    whole, parts = (
        losses(tiny_config(**CALM, **MIXING, **{"train.accumulate": n}), steps=4)[0]
        for n in (1, 4)
    )
    np.testing.assert_allclose(whole, parts, atol=1e-5)


def test_augmentation_is_the_same_on_one_and_eight_devices():
    images = np.random.RandomState(0).randint(0, 256, (16, 12, 12, 3), np.uint8)
    index = np.arange(100, 116, dtype=np.int32)

    @jax.jit
    def run(images, index):
        return augment(
            images,
            index,
            jnp.int32(7),
            seed=3,
            flip=True,
            color_jitter="hsb",
            jitter_strength=0.4,
            pca_std=0.1,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        )

    spread = split(make_mesh(8))
    alone = run(images, index)
    shared = run(jax.device_put(images, spread), jax.device_put(index, spread))
    np.testing.assert_allclose(alone, shared, atol=1e-3)


def overflowing(experiment, state):
    """A step whose gradients overflow: one parameter is made enormous."""
    params = jax.tree.map(lambda x: x, state.params)
    params["fc"]["kernel"] = params["fc"]["kernel"] * 1e30
    state = state.replace(params=params)
    before = jax.device_get(state)
    size = experiment.config.data.image_size
    rows = experiment.config.train.batch_size
    batch = {
        "image": np.full((rows, size, size, 3), 200, np.uint8),
        "label": np.zeros(rows, np.int32),
        "index": np.arange(rows, dtype=np.int32),
    }
    after, metrics = experiment.train_step(state, batch)
    return before, jax.device_get(after), metrics


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_an_overflow_skips_the_step_and_leaves_everything_untouched(
    tiny_config, precision
):
    experiment = build(tiny_config(**{"tricks.precision": precision}))
    before, after, metrics = overflowing(experiment, experiment.init_state())
    assert metrics["skipped"] == 1
    for part in ("params", "batch_stats", "opt_state"):
        old, new = (jax.tree.leaves(getattr(s, part)) for s in (before, after))
        for a, b in zip(old, new, strict=True):
            np.testing.assert_array_equal(a, b)
    assert after.step == before.step + 1
    if precision == "fp16":
        assert after.loss_scale.scale == before.loss_scale.scale / 2


def toy_step(losses, accumulate):
    """A step of a loss whose gradient is 1 whatever it reports, here `losses`."""
    optimizer = optax.inject_hyperparams(optax.sgd)(0.1)
    params = {"w": jnp.float32(2)}
    state = TrainState(
        step=jnp.int32(0),
        params=params,
        batch_stats={"mean": jnp.float32(3)},
        opt_state=optimizer.init(params),
        loss_scale=None,
    )

    def loss(params, state, batch, constants, dropout_key, scale):
        stats = {"mean": state.batch_stats["mean"] + 1}
        return params["w"] * scale, (stats, {"loss": batch["loss"].sum()})

    options = StepOptions(
        seed=0,
        policy=POLICIES["fp32"],
        accumulate=accumulate,
        group_size=1,
        growth_steps=1,
        scale_cap=1.0,
    )
    batch = {"index": jnp.arange(4), "loss": jnp.array(losses, jnp.float32)}
    return train_step(
        state,
        batch,
        loss=loss,
        optimizer=optimizer,
        schedule=lambda count: 0.1,
        options=options,
    )


@pytest.mark.parametrize("accumulate", [1, 4])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_skips_a_step_of_finite_gradients(accumulate, bad):
    for place in (0, 3):
        losses = np.ones(4)
        losses[place] = bad
        state, metrics = toy_step(losses, accumulate)
        assert (metrics["skipped"], metrics["grad_norm"]) == (1, 1)
        assert (state.params["w"], state.batch_stats["mean"], state.step) == (2, 3, 1)
    state, metrics = toy_step(np.ones(4), accumulate)
    assert (metrics["skipped"], metrics["loss"]) == (0, 1)
    assert state.params["w"] == np.float32(1.9)
    assert state.batch_stats["mean"] == 4


@pytest.mark.slow
def test_fp16_trains_and_its_scale_stays_under_the_cap(tiny_config):
    config = tiny_config(
        **{
            "train.steps": 15,
            "tricks.precision": "fp16",
            "tricks.loss_scale_init": 2.0**10,  # 2**15 overflows in the first steps
            "tricks.loss_scale_growth_steps": 2,
            "tricks.loss_scale_cap": 2.0**13,
        }
    )
    experiment = build(config)
    state = experiment.init_state()
    scales = []
    for batch in device_batches(training_batches(experiment, 0), experiment.mesh):
        state, metrics = experiment.train_step(state, batch)
        assert metrics["skipped"] == 0
        scales.append(float(metrics["loss_scale"]))
    assert max(scales) == 2.0**13
    kinds = {leaf.dtype for leaf in jax.tree.leaves((state.params, state.batch_stats))}
    assert kinds == {jnp.dtype("float32")}


def lowered(config):
    """The train step's program for a batch of the config's size, not yet compiled."""
    experiment = build(config)
    rows, size = config.train.batch_size, config.data.image_size
    batch = {
        "image": np.zeros((rows, size, size, 3), np.uint8),
        "label": np.zeros(rows, np.int32),
        "index": np.arange(rows, dtype=np.int32),
    }
    return experiment.train_step.lower(experiment.init_state(), batch)


@pytest.mark.parametrize("mixing", [{}, MIXING])
def test_the_step_leaves_three_all_reduces_when_groups_fit_a_device(
    tiny_config, mixing
):
    eight = {"mesh.devices": 8, "train.batch_size": 64, "model.bn_group_size": 8}
    program = lowered(tiny_config(**eight, **mixing)).compile().as_text() or ""
    assert 1 <= program.count(" all-reduce(") <= 3
    for exchange in ("all-gather", "all-to-all", "collective-permute"):
        assert exchange not in program


@pytest.mark.slow
def test_options_of_what_is_off_leave_the_program_as_it_is(tiny_config):
    options = {
        "tricks.mixup_lambda": "example",
        "tricks.mixup_off_epochs": 3.0,
        "data.rand_augment_magnitude": 1.0,
        "data.random_erasing_fill": "zero",
    }
    plain = lowered(tiny_config()).as_text()
    assert lowered(tiny_config(**options)).as_text() == plain
    for switch in (
        {"tricks.mixup": 0.2},
        {"tricks.cutmix": 1.0},
        {"data.rand_augment_ops": 1},
        {"data.random_erasing": 0.5},
    ):
        assert lowered(tiny_config(**switch)).as_text() != plain


@pytest.mark.parametrize(
    ("logits", "label", "rank"),
    [
        ([3.0, 2.0, 1.0], 1, 1),
        ([1.0, 1.0, 1.0], 0, 0),
        ([1.0, 1.0, 1.0], 2, 2),
        ([np.nan, 0.0, 1.0], 2, 1),
        ([np.nan, np.nan, np.nan], 0, 3),
    ],
)
def test_ties_go_to_the_lower_class_and_nan_is_never_right(logits, label, rank):
    assert rank_of_label(jnp.array([logits]), jnp.array([label]))[0] == rank
