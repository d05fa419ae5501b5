"""Fine-tuning: what is frozen stays bit for bit, the rest moves at its own rate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rtj
from rtj.errors import CheckpointError, ConfigError, Stopped
from rtj.experiment import build
from rtj.fine_tuning import FineTuning, scale_by_stage
from rtj.inputs import training_batches
from rtj.models import create_model
from rtj.models.stages import count_stages, stage_of
from rtj.sharding import device_batches
from rtj.weights.load import variable_shapes
from tests.test_loop import assert_same_state, final_state, stop_at

STAGES = {
    "resnet18": (4, {"stem": 0, "layer1_0": 1, "layer4_1": 4, "fc": 5}),
    "densenet121": (4, {"block1_0": 1, "transition3": 3, "final_bn": 4, "fc": 5}),
    "mobilenet": (5, {"stem": 0, "layer5_1": 5, "fc": 6}),
    "inception_v3": (3, {"Conv2d_4a_3x3": 0, "Mixed_5b": 1, "Mixed_7c": 3, "fc": 4}),
}


@pytest.mark.parametrize("network", STAGES)
def test_every_family_has_its_stages(network):
    names = list(variable_shapes(create_model(network))["params"])
    stages, some = STAGES[network]
    assert count_stages(names) == stages
    assert {name: stage_of(name, stages) for name in some} == some
    assert {stage_of(name, stages) for name in names} == set(range(stages + 2))


def states(config):
    """The first state and the last of a run, on the host."""
    experiment = build(config)
    state = experiment.init_state()
    first = jax.device_get(state)
    for batch in device_batches(training_batches(experiment, 0), experiment.mesh):
        state, _ = experiment.train_step(state, batch)
    return first, jax.device_get(state)


def moved(first, last):
    """Names of the modules of which anything differs."""
    return {
        name
        for name in first
        if any(
            (a != b).any()
            for a, b in zip(
                jax.tree.leaves(first[name]), jax.tree.leaves(last[name]), strict=True
            )
        )
    }


def test_frozen_stages_keep_weights_and_statistics_and_the_rest_learns(tiny_config):
    changes = {"train.steps": 2, "train.frozen_stages": 2, "tricks.warmup_epochs": 0.0}
    first, last = states(tiny_config("baseline", **changes))
    rest = {"layer2_0", "layer3_0", "layer4_0"}
    assert moved(first.params, last.params) == {*rest, "fc"}
    assert moved(first.batch_stats, last.batch_stats) == rest


def test_frozen_batch_norm_keeps_its_statistics_and_learns_its_scales(tiny_config):
    changes = {"train.steps": 2, "train.freeze_batch_norm": True}
    first, last = states(tiny_config("baseline", **changes))
    assert moved(first.batch_stats, last.batch_stats) == set()
    assert moved(first.params, last.params) == set(first.params)
    bn = last.params["layer4_0"]["bn1"]["scale"]
    assert (bn != 1).any()


def test_a_frozen_network_is_evaluated_as_it_is_trained(tiny_config):
    """With all of batch norm frozen, training applies the network of evaluation."""
    config = tiny_config("baseline", **{"train.freeze_batch_norm": True})
    model = build(config).model
    images = np.random.RandomState(0).randn(8, 14, 14, 3).astype(np.float32)
    variables = model.init(jax.random.key(0), images, train=False)
    tuning = FineTuning(freeze_batch_norm=True)
    with tuning.batch_norm(variables["params"]):
        trained, updates = model.apply(
            variables, images, train=True, mutable=["batch_stats"]
        )
    np.testing.assert_array_equal(trained, model.apply(variables, images, train=False))
    jax.tree.map(
        np.testing.assert_array_equal, updates["batch_stats"], variables["batch_stats"]
    )


def test_rates_fall_by_the_decay_from_stage_to_stage():
    params = {name: jnp.ones(2) for name in ("stem", "layer1_0", "layer2_0", "fc")}
    tuning = FineTuning(frozen=1, stage_decay=0.5, head_factor=10.0)
    transform = optax.chain(optax.sgd(0.1), scale_by_stage(tuning))
    updates, _ = transform.update(params, transform.init(params), params)
    got = {name: float(update[0]) for name, update in updates.items()}
    want = {"stem": 0.0, "layer1_0": -0.05, "layer2_0": -0.1, "fc": -1.0}
    assert got == pytest.approx(want)


def test_the_gradient_of_a_frozen_stage_is_not_computed():
    params = {name: jnp.float32(2) for name in ("stem", "layer1_0", "fc")}
    tuning = FineTuning(frozen=1)

    def loss(params):
        p = tuning.stop_gradients(params)
        return p["stem"] * p["layer1_0"] * p["fc"]

    grads = jax.grad(loss)(params)
    assert [float(grads[name]) for name in ("stem", "layer1_0", "fc")] == [0, 4, 4]


def test_more_frozen_stages_than_there_are_is_an_error(tiny_config):
    with pytest.raises(ConfigError, match=r"frozen_stages=6, .* has 5 .*: 0 to 5"):
        build(tiny_config(**{"train.frozen_stages": 6}))


@pytest.fixture(scope="module")
def trained(tiny_config, tmp_path_factory):
    """The workdir of a run to start from."""
    workdir = tmp_path_factory.mktemp("trained")
    rtj.train(tiny_config("baseline", **{"train.steps": 3}), workdir)
    return workdir


@pytest.mark.slow
def test_a_run_starts_from_the_weights_it_is_given(tiny_config, trained, tmp_path):
    config = tiny_config(
        "baseline",
        **{"train.weights": str(trained), "train.steps": 1, "tricks.base_lr": 0.0},
    )
    rtj.train(config, tmp_path)
    want = final_state(tiny_config("baseline", **{"train.steps": 3}), trained)
    assert_same_state(final_state(config, tmp_path).params, want.params)


@pytest.mark.slow
def test_a_fresh_classifier_is_the_seeds_and_the_rest_is_the_weights(
    tiny_config, trained, tmp_path
):
    config = tiny_config(
        "baseline",
        **{
            "train.weights": str(trained),
            "train.head": "reset",
            "train.steps": 1,
            "tricks.base_lr": 0.0,
            "tricks.ema": 0.9,
        },
    )
    rtj.train(config, tmp_path)
    state = final_state(config, tmp_path)
    given = final_state(tiny_config("baseline", **{"train.steps": 3}), trained)
    fresh = build(config).init_state()
    assert_same_state(state.params["fc"], fresh.params["fc"])
    assert_same_state(state.params["stem"], given.params["stem"])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        state.average["params"]["stem"],
        given.params["stem"],
    )


@pytest.mark.slow
def test_a_stopped_run_goes_on_without_the_weights_it_started_from(
    tiny_config, trained, tmp_path
):
    moving = tmp_path / "weights"
    moving.symlink_to(trained)
    config = tiny_config("baseline", **{"train.weights": str(moving)})
    config.train.steps = 6
    with pytest.raises(Stopped):
        rtj.train(config, tmp_path / "run", callbacks=[stop_at(3)])
    moving.unlink()
    assert rtj.train(config, tmp_path / "run")["step"] == 6


def test_weights_that_are_not_there_are_one_error_and_nothing_is_written(
    tiny_config, tmp_path
):
    config = tiny_config(**{"train.weights": str(tmp_path / "none")})
    with pytest.raises(CheckpointError, match=r"train.weights=.*none"):
        rtj.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_with_other_classes_ask_for_a_fresh_classifier(
    tiny_config, trained, tmp_path
):
    other = {"train.weights": str(trained), "model.num_classes": 12}
    with pytest.raises(CheckpointError, match="10 classes, the model has 12"):
        rtj.train(tiny_config("baseline", **other), tmp_path / "run")
