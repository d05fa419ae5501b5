"""mesh.shard_optimizer: the same training, its momentum in parts."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from rtj.checkpoint import Checkpointer, restore_newest
from rtj.experiment import build
from rtj.inputs import training_batches
from rtj.sharding import device_batches, make_mesh, split_largest_axes

DEVICES, STEPS = 8, 4
pytestmark = pytest.mark.slow  # the runs that they share take 12 seconds


def make(tiny_config, sharded):
    return tiny_config(
        **{
            "train.steps": STEPS,
            "mesh.devices": DEVICES,
            "mesh.shard_optimizer": sharded,
            "model.width": 8,
            "model.bn_group_size": 4,
        }
    )


def train(config):
    """(experiment, its state after STEPS steps, the losses)."""
    experiment = build(config)
    state, losses = experiment.init_state(), []
    for batch in device_batches(training_batches(experiment, 0), experiment.mesh):
        state, metrics = experiment.train_step(state, batch)
        losses.append(float(metrics["loss"]))
    return experiment, state, losses


@pytest.fixture(scope="module")
def runs(tiny_config):
    return {sharded: train(make(tiny_config, sharded)) for sharded in (False, True)}


def bytes_on_one_device(tree):
    return sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree))


def test_the_losses_are_those_of_whole_momentum(runs):
    np.testing.assert_allclose(runs[True][2], runs[False][2], atol=1e-6)


def test_a_device_holds_its_share_of_the_momentum_and_all_parameters(runs):
    whole, parts = runs[False][1], runs[True][1]
    small = sum(
        x.nbytes
        for x in jax.tree.leaves(whole.opt_state)
        if x.ndim < 2 or not any(n % DEVICES == 0 for n in x.shape)
    )
    everything = bytes_on_one_device(whole.opt_state)
    assert small < 0.05 * everything
    assert bytes_on_one_device(parts.opt_state) == (
        (everything - small) / DEVICES + small
    )
    assert bytes_on_one_device(parts.params) == bytes_on_one_device(whole.params)
    for leaf in jax.tree.leaves((parts.params, parts.batch_stats)):
        assert leaf.sharding.is_fully_replicated


def test_the_largest_axis_that_divides_is_split():
    leaves = {
        "kernel": jax.ShapeDtypeStruct((3, 3, 16, 24), np.float32),
        "odd": jax.ShapeDtypeStruct((3, 10), np.float32),
        "vector": jax.ShapeDtypeStruct((64,), np.float32),
        "count": jax.ShapeDtypeStruct((), np.int32),
    }
    found = split_largest_axes(leaves, make_mesh(DEVICES))
    assert found["kernel"].spec == PartitionSpec(None, None, None, "data")
    for name in ("odd", "vector", "count"):
        assert found[name].spec == PartitionSpec()


@pytest.mark.parametrize("sharded", [False, True])
def test_a_checkpoint_is_restored_into_either_setting(runs, tmp_path, sharded):
    _, saved, _ = runs[sharded]
    with Checkpointer(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(saved)
        checkpoints.wait()
    other = runs[not sharded][0].init_state()
    restored = restore_newest(tmp_path / "checkpoints", other).state
    for have, want, like in zip(
        *(jax.tree.leaves(state) for state in (restored, saved, other)), strict=True
    ):
        np.testing.assert_array_equal(have, want)
        assert have.sharding == like.sharding
