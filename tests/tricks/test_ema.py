"""The average of the weights: its closed form, and where it is used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rtj
from rtj.experiment import build
from rtj.inputs import training_batches
from rtj.sharding import device_batches
from rtj.tricks.ema import ema_decay, ema_update
from rtj.weights import load_weights


def test_the_decay_rises_to_its_value():
    got = [float(ema_decay(0.9, jnp.int32(k))) for k in (0, 1, 8, 80, 1000)]
    np.testing.assert_allclose(got, [1 / 10, 2 / 11, 9 / 18, 0.9, 0.9], rtol=1e-6)


def test_the_average_is_a_weighted_sum_whose_weights_are_one_in_all():
    values, decay = np.arange(1.0, 6.0), 0.8
    average = {"w": jnp.float32(10.0)}
    for value in values:
        average = ema_update(average, {"w": jnp.float32(value)}, jnp.float32(decay))
    want = decay**5 * 10 + sum(
        (1 - decay) * decay ** (4 - k) * value for k, value in enumerate(values)
    )
    np.testing.assert_allclose(average["w"], want, rtol=1e-6)


def states(config):
    """The state after each step of a run."""
    experiment = build(config)
    state = experiment.init_state()
    for batch in device_batches(training_batches(experiment, 0), experiment.mesh):
        state, _ = experiment.train_step(state, batch)
        yield jax.device_get(state)


@pytest.mark.slow
@pytest.mark.parametrize("statistics", [True, False])
def test_a_run_averages_what_it_is_told_to_and_evaluates_that(tiny_config, statistics):
    config = tiny_config(
        **{
            "train.steps": 4,
            "tricks.ema": 0.5,
            "tricks.ema_batch_stats": statistics,
        }
    )
    first = jax.device_get(build(config).init_state())
    want, newest = first.weights, first
    for k, newest in enumerate(states(config)):
        decay = min(0.5, (1 + k) / (10 + k))
        want = jax.tree.map(
            lambda a, b, d=decay: d * a + (1 - d) * b, want, newest.weights
        )
    if not statistics:
        want["batch_stats"] = newest.batch_stats
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        newest.variables,
        want,
    )
    assert newest.variables is newest.average


def test_a_run_without_it_has_none(tiny_config):
    state = build(tiny_config()).init_state()
    assert state.average is None
    assert state.variables["params"] is state.params


@pytest.mark.slow
def test_weights_loaded_from_a_run_are_its_average(tiny_config, tmp_path):
    config = tiny_config(**{"train.steps": 3, "tricks.ema": 0.9})
    rtj.train(config, tmp_path)
    *_, last = states(config)
    model = build(config).model
    loaded = load_weights(model, tmp_path, name=config.model.name)
    jax.tree.map(np.testing.assert_array_equal, loaded, last.average)
