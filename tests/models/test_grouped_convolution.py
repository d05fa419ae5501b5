"""Convolutions in groups against loops in NumPy, and what their programs hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from tests.models.test_convolution import (
    CASES,
    arrays_of,
    loops,
    program,
    with_gradients,
)

# Channels in, channels out, groups.
GROUPS = {
    "depthwise": (6, 6, 6),
    "depthwise, two each": (6, 12, 6),
    "groups": (6, 9, 3),
}
WINDOWS = (
    "1x1",
    "3x3",
    "3x3 of a small map",
    "3x3 strided",
    "3x3 padded unevenly",
    "3x3 dilated",
    "1x7",
)


def operands(window, kind):
    channels, filters, groups = GROUPS[kind]
    case = CASES[window]._replace(channels=(channels, filters))
    x, kernel, gradient = arrays_of(case)
    return case, groups, (x, kernel[:, :, : channels // groups], gradient)


def loops_of_groups(case, groups, x, kernel, gradient):
    """The result and both gradients, each group as a convolution of its own."""
    parts = [
        np.split(x, groups, -1),
        np.split(kernel, groups, -1),
        np.split(gradient, groups, -1),
    ]
    found = [loops(case, *part) for part in zip(*parts, strict=True)]
    return [np.concatenate(arrays, -1) for arrays in zip(*found, strict=True)]


@pytest.mark.parametrize("kind", GROUPS)
@pytest.mark.parametrize("window", WINDOWS)
def test_values_and_gradients_are_those_of_loops(window, kind):
    case, groups, arrays = operands(window, kind)
    with jax.enable_x64(True):
        found = jax.jit(lambda x, k, g: with_gradients(case, x, k, g, groups=groups))(
            *arrays
        )
    wanted = loops_of_groups(case, groups, *arrays)
    for ours, right in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", GROUPS)
def test_in_16_bits_results_are_rounded_once(kind):
    case, groups, arrays = operands("3x3", kind)
    small = [jnp.bfloat16(array) for array in arrays]
    found = jax.jit(lambda x, k, g: with_gradients(case, x, k, g, groups=groups))(
        *small
    )
    wanted = loops_of_groups(case, groups, *(np.float64(array) for array in small))
    for ours, right in zip(found, wanted, strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float64(ours), right, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("groups", [64, 8])
def test_programs_for_accelerators_are_those_of_lax(groups, dtype, platform):
    case = CASES["3x3 strided"]._replace(channels=(64, 64))
    plain = program(case, dtype, platform, lax.conv_general_dilated, groups)
    assert plain["convolution"] == 3
    assert program(case, dtype, platform, groups=groups) == plain


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_programs_for_a_cpu_add_and_multiply(dtype):
    case = CASES["3x3"]._replace(channels=(64, 64))
    depthwise = program(case, dtype, "cpu", groups=64)
    assert not {"convolution", "dot_general"} & set(depthwise)
    grouped = program(case, dtype, "cpu", groups=8)
    assert (grouped["convolution"], grouped["dot_general"]) == (2, 1)
