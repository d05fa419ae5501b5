"""Grouped batch norm against NumPy, and what its options may be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.models.batch_norm import BatchNorm

IMAGES = np.random.RandomState(0).normal(3, 2, (32, 5, 4, 6)).astype(np.float32)


def apply(norm, images, train=True):
    variables = norm.init(jax.random.key(0), images, train=False)
    return norm.apply(variables, images, train=train, mutable=["batch_stats"])


@pytest.mark.parametrize("group", [4, 8, 32, 0])
def test_each_group_is_normalised_by_its_own_statistics(group):
    size = group or 32
    got, updates = apply(BatchNorm(group_size=group), IMAGES)
    groups = IMAGES.reshape(-1, size, 5, 4, 6).astype(np.float64)
    mean = groups.mean((1, 2, 3), keepdims=True)
    var = groups.var((1, 2, 3), keepdims=True)
    want = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(IMAGES.shape)
    np.testing.assert_allclose(got, want, atol=1e-5)
    stats = updates["batch_stats"]
    now = mean.mean(0).ravel(), var.mean(0).ravel()
    np.testing.assert_allclose(stats["mean"], 0.1 * now[0], rtol=1e-4)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * now[1], rtol=1e-4)


def test_inference_uses_the_running_statistics_and_changes_nothing():
    got, updates = apply(BatchNorm(), IMAGES, train=False)
    np.testing.assert_allclose(got, IMAGES / np.sqrt(1 + 1e-5), rtol=1e-6)
    np.testing.assert_array_equal(updates["batch_stats"]["mean"], np.zeros(6))


def test_a_group_that_does_not_divide_the_batch_is_an_error_that_says_so():
    with pytest.raises(ValueError, match=r"bn_group_size=5 does not divide .* 32"):
        apply(BatchNorm(group_size=5), IMAGES)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_statistics_stay_float32_in_16_bits(dtype):
    images = jnp.asarray(IMAGES).astype(dtype)
    got, updates = apply(BatchNorm(dtype=dtype), images)
    assert got.dtype == dtype
    stats = updates["batch_stats"]
    assert stats["mean"].dtype == stats["var"].dtype == jnp.float32
    exact = np.asarray(images, np.float64)
    np.testing.assert_allclose(stats["mean"], 0.1 * exact.mean((0, 1, 2)), rtol=1e-5)
    var = 0.9 + 0.1 * exact.var((0, 1, 2))
    np.testing.assert_allclose(stats["var"], var, rtol=1e-5)


def test_a_mean_far_from_zero_does_not_cost_the_variance_its_digits():
    images = jnp.asarray(IMAGES + 1000)
    norm = BatchNorm()
    variables = norm.init(jax.random.key(0), images, train=False)
    for _ in range(60):  # the running mean comes within 0.2 % of the batch's
        _, updates = norm.apply(variables, images, train=True, mutable=["batch_stats"])
        variables = {**variables, **updates}
    got, _ = norm.apply(variables, images, train=True, mutable=["batch_stats"])
    exact = np.asarray(images, np.float64)
    want = (exact - exact.mean((0, 1, 2))) / exact.std((0, 1, 2))
    np.testing.assert_allclose(got, want, atol=1e-3)


def test_the_result_does_not_depend_on_how_many_devices_hold_the_batch():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    spread = jax.NamedSharding(mesh, jax.P("data"))
    for group in (4, 8, 0):
        norm = BatchNorm(group_size=group)
        alone, _ = apply(norm, IMAGES)
        shared, _ = jax.jit(lambda x, norm=norm: apply(norm, x))(
            jax.device_put(IMAGES, spread)
        )
        np.testing.assert_allclose(shared, alone, atol=1e-5)
