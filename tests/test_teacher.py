"""A run with a teacher: what it is shown, and that it stays as it is."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import rtj
from rtj.config import set_field
from rtj.errors import CheckpointError, ConfigError, Stopped
from rtj.experiment import build
from rtj.inputs import training_batches
from rtj.parts import make_classification, make_mixing
from rtj.sharding import device_batches
from rtj.teacher import Teacher, make_distillation, open_teacher
from rtj.tricks.distillation import Distillation, distillation_loss
from rtj.tricks.low_precision import POLICIES
from rtj.weights.fingerprint import fingerprint
from tests.test_loop import assert_same_state, final_state, stop_at

# See tests/test_steps.py: at higher rates a flipped ReLU is multiplied, as at 0.001 one
# is at the fifth step.
# At T = 20 the loss is near T^2 log 10, and float32 holds 5e-5 of that.
CALM = {
    "tricks.base_lr": 0.0003,
    "tricks.warmup_epochs": 0.0,
    "tricks.temperature": 1.0,
    "model.width": 8,
}


@pytest.fixture(scope="module")
def teacher(tiny_config, tmp_path_factory):
    """The workdir of a run of a few steps."""
    workdir = tmp_path_factory.mktemp("teacher")
    changes = {"train.steps": 6, "model.name": "resnet14d"}
    config = tiny_config("teacher,precision=fp32", **changes)
    rtj.train(config, workdir)
    return workdir


@pytest.fixture
def student(tiny_config, teacher):
    """Makes a config that learns from it."""

    def make(row="distill", precision="fp32", **changes):
        return tiny_config(f"{row},teacher={teacher},precision={precision}", **changes)

    return make


def opened(config, num_classes=10) -> Teacher:
    """The config's teacher, which is there."""
    found = open_teacher(config, num_classes)
    assert found is not None
    return found


def run(config):
    """(state, metrics, batch) of each step."""
    experiment = build(config)
    state = experiment.init_state()
    for batch in device_batches(training_batches(experiment, 0), experiment.mesh):
        state, metrics = experiment.train_step(state, batch, *experiment.constants)
        yield state, metrics, batch


@pytest.mark.slow
def test_the_loss_of_a_step_is_of_the_mixed_images_shown_to_both(student):
    half = {"tricks.mixup": 100.0, "tricks.temperature": 20.0}  # lambda is about 1/2
    config = student("distill_mixup", **half, **{"train.steps": 1})
    experiment = build(config)
    state = experiment.init_state()
    (_, metrics, batch) = next(run(config))
    mixing = make_mixing(config, experiment.steps_per_epoch, experiment.total_steps)
    mixed, unmixed = (
        make_classification(config, experiment.model, m) for m in (mixing, None)
    )
    images, targets, _ = mixed.inputs(batch, jnp.int32(0))
    plain, _, _ = unmixed.inputs(batch, jnp.int32(0))
    assert np.abs(np.asarray(images - plain)).max() > 0.1
    teacher = opened(config)
    shown: Any = teacher.model.apply(teacher.variables, images, train=False)
    logits: Any = experiment.model.apply(
        state.weights, images, train=True, mutable=["batch_stats"]
    )[0]
    want = distillation_loss(logits, shown, targets, 20.0).mean()
    np.testing.assert_allclose(metrics["loss"], want, rtol=1e-4)


@pytest.mark.slow
def test_the_teachers_arrays_are_as_before_after_training(student):
    config = student(**{"train.steps": 3})
    experiment = build(config)
    before = fingerprint(*experiment.constants)
    state = experiment.init_state()
    for batch in device_batches(training_batches(experiment, 0), experiment.mesh):
        state, _ = experiment.train_step(state, batch, *experiment.constants)
    assert fingerprint(*experiment.constants) == before
    assert before == opened(config).fingerprint


@pytest.mark.slow
def test_one_and_eight_devices_learn_the_same_from_a_teacher(student):
    one, eight = (
        [
            float(metrics["loss"])
            for _, metrics, _ in run(
                student(
                    "distill_mixup", **CALM, **{"train.steps": 8, "mesh.devices": n}
                )
            )
        ]
        for n in (1, 8)
    )
    np.testing.assert_allclose(one, eight, atol=1e-5)


@pytest.mark.slow
def test_a_run_with_a_teacher_and_an_average_resumes_bit_for_bit(student, tmp_path):
    config = student("distill_mixup", **{"train.steps": 8, "tricks.ema": 0.9})
    rtj.train(config, tmp_path / "whole")
    with pytest.raises(Stopped, match="step 4 of 8"):
        rtj.train(config, tmp_path / "parts", callbacks=[stop_at(4)])
    rtj.train(config, tmp_path / "parts")
    assert_same_state(
        *(final_state(config, tmp_path / name) for name in ("whole", "parts"))
    )


@pytest.mark.slow
def test_other_weights_under_the_same_path_are_refused_on_resume(
    tiny_config, teacher, tmp_path
):
    moving = tmp_path / "teacher"
    moving.symlink_to(teacher)
    config = tiny_config(f"distill,teacher={moving},precision=fp32")
    with pytest.raises(Stopped):
        rtj.train(config, tmp_path / "run", callbacks=[stop_at(2)])
    moving.unlink()  # the student itself plays the other teacher
    moving.symlink_to(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"tricks.teacher=.* holds other weights"):
        rtj.train(config, tmp_path / "run")


def test_a_teacher_that_saw_other_colours_is_shown_its_own(student):
    config = student()
    given = opened(config)
    set_field(config, "data.mean", (100.0, 110.0, 120.0))
    set_field(config, "data.std", (50.0, 60.0, 70.0))
    made = make_distillation(config, given)
    pixels = np.random.RandomState(0).uniform(0, 255, (2, 4, 4, 3))
    mine = (pixels - config.data.mean) / config.data.std
    its = (pixels - given.mean) / given.std
    np.testing.assert_allclose(
        np.asarray(made.scale) * mine + np.asarray(made.shift), its, atol=1e-9
    )


def test_a_teacher_has_the_precision_that_it_is_given(student):
    assert opened(student(precision="bf16")).model.dtype == jnp.bfloat16
    config = student(precision="bf16", **{"tricks.teacher_precision": "fp32"})
    assert opened(config).model.dtype == jnp.float32
    assert build(config).model.dtype == jnp.bfloat16


def test_what_cannot_teach_is_one_error(student, tiny_config, tmp_path):
    with pytest.raises(ConfigError, match=r"tells 10 classes apart.* has 7"):
        open_teacher(student(), 7)
    absent = tiny_config(f"distill,teacher={tmp_path / 'nothing'}")
    with pytest.raises(CheckpointError, match=r"tricks.teacher=.*nothing"):
        open_teacher(absent, 10)
    other = student(**{"tricks.teacher_model": "resnet50d"})
    with pytest.raises(ConfigError, match=r"resnet50d.*holds a resnet14d"):
        open_teacher(other, 10)


@pytest.mark.parametrize("row", ["distill", "distill_mixup"])
def test_a_row_with_distillation_says_that_it_needs_a_teacher(row):
    with pytest.raises(ConfigError, match=r"needs teacher=.*ablation.py:teacher"):
        rtj.get_config(f"ablation:{row}")


def test_a_row_without_distillation_takes_no_teacher():
    with pytest.raises(ConfigError, match="'cosine' has no distillation"):
        rtj.get_config("ablation:cosine,teacher=somewhere")


UNAUGMENTED = {"data.crop_area": (1.0, 1.0), "data.crop_ratio": (1.0, 1.0)}


@pytest.mark.slow
def test_a_cache_of_logits_trains_as_the_teacher_itself_does(student):
    losses = [
        [
            float(metrics["loss"])
            for _, metrics, _ in run(
                student(
                    **UNAUGMENTED,
                    **{
                        "train.steps": 4,
                        "tricks.temperature": 1.0,
                        "tricks.teacher_cache": cached,
                        "data.train_split": "train[:100]",
                    },
                )
            )
        ]
        for cached in (False, True)
    ]
    taught, looked_up = losses
    np.testing.assert_allclose(taught, looked_up, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data.crop_ratio": (0.9, 1.0)},
            r"crop_ratio is \(0.9, 1.0\); .*\(1.0, 1.0\)",
        ),
        ({"data.flip": True}, "data.flip is True; allowed: False"),
        ({"tricks.mixup": 0.2}, "tricks.mixup is 0.2; allowed: 0"),
        ({"tricks.teacher": ""}, "needs tricks.teacher"),
    ],
)
def test_a_cache_needs_images_that_do_not_change(student, changes, message):
    cached = {"tricks.teacher_cache": True}
    with pytest.raises(ConfigError, match=message):
        build(student(**(UNAUGMENTED | cached | changes)))


def test_a_look_up_gives_each_example_its_row():
    table = jnp.arange(12.0).reshape(4, 3)
    given = Distillation(20.0, "paper", None, POLICIES["fp32"])
    got = given.logits(jnp.zeros((2, 1, 1, 3)), jnp.array([3, 1]), table)
    np.testing.assert_array_equal(got, [[9, 10, 11], [3, 4, 5]])
