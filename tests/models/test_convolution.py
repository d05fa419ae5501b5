"""The convolution against loops in NumPy, and what its programs are made of."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from rtj.models import layers
from rtj.models.convolution import convolve
from tests.models.lowered import operations

LAYOUT = ("NHWC", "HWIO", "NHWC")


class Case(NamedTuple):
    map: tuple[int, int]
    kernel: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    channels: tuple[int, int] = (64, 65)


CASES = {
    "1x1": Case((3, 5), (1, 1), ((0, 0), (0, 0)), channels=(3, 2)),
    "1x1 strided": Case((5, 4), (1, 1), ((0, 0), (0, 0)), (2, 2), channels=(3, 2)),
    "1x1 strided unevenly": Case((5, 4), (1, 1), ((0, 0), (0, 0)), (3, 1)),
    "1x1 padded": Case((3, 4), (1, 1), ((1, 0), (0, 1)), channels=(3, 2)),
    "3x3": Case((8, 7), (3, 3), ((1, 1), (1, 1))),
    "3x3 of a small map": Case((2, 3), (3, 3), ((1, 1), (1, 1))),
    "3x3 of a smaller result": Case((4, 3), (3, 3), ((1, 1), (1, 1)), (2, 2)),
    "3x3 of a small map, dilated": Case(
        (2, 3), (3, 3), ((2, 2), (2, 2)), (1, 1), (2, 2)
    ),
    "7x7 of a small result": Case(
        (12, 11), (7, 7), ((3, 3), (3, 3)), (2, 2), channels=(3, 4)
    ),
    "3x3 strided": Case((6, 7), (3, 3), ((1, 1), (1, 1)), (2, 2)),
    "3x3 padded unevenly": Case((6, 6), (3, 3), ((0, 1), (0, 1)), (2, 2)),
    "3x3 without pads": Case((9, 8), (3, 3), ((0, 0), (0, 0))),
    "3x3 dilated": Case((12, 11), (3, 3), ((2, 2), (2, 2)), dilation=(2, 2)),
    "3x3 dilated far": Case((5, 4), (3, 3), ((4, 4), (4, 4)), dilation=(4, 4)),
    "1x7": Case((3, 9), (1, 7), ((0, 0), (3, 3))),
    "7x1": Case((9, 3), (7, 1), ((3, 3), (0, 0))),
    "3x3 with few channels": Case((5, 6), (3, 3), ((1, 1), (1, 1)), channels=(3, 4)),
}


def arrays_of(case):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *case.map, case.channels[0]))
    kernel = rng.normal(size=(*case.kernel, *case.channels))
    sizes = [
        (size + sum(pad) - (k - 1) * step - 1) // stride + 1
        for size, pad, k, step, stride in zip(
            case.map, case.pads, case.kernel, case.dilation, case.strides, strict=True
        )
    ]
    return x, kernel, rng.normal(size=(2, *sizes, case.channels[1]))


def loops(case, x, kernel, gradient):
    """The convolution and both gradients, cell of the kernel by cell of the kernel."""
    padded = np.pad(x, ((0, 0), *case.pads, (0, 0)))
    y, of_padded, of_kernel = (np.zeros_like(a) for a in (gradient, padded, kernel))
    height, width = gradient.shape[1:3]
    for i, j in np.ndindex(*case.kernel):
        rows = i * case.dilation[0] + case.strides[0] * np.arange(height)
        columns = j * case.dilation[1] + case.strides[1] * np.arange(width)
        cells = np.ix_(range(len(x)), rows, columns)
        y += padded[cells] @ kernel[i, j]
        of_padded[cells] += gradient @ kernel[i, j].T
        of_kernel[i, j] = np.einsum("nhwc,nhwf->cf", padded[cells], gradient)
    (top, _), (left, _) = case.pads
    of_x = of_padded[:, top : top + case.map[0], left : left + case.map[1]]
    return y, of_x, of_kernel


def convolved(case, x, kernel, convolution=convolve, groups=1):
    return convolution(
        x,
        kernel,
        case.strides,
        case.pads,
        lhs_dilation=(1, 1),
        rhs_dilation=case.dilation,
        dimension_numbers=LAYOUT,
        feature_group_count=groups,
        precision=None,
    )


def with_gradients(case, x, kernel, gradient, convolution=convolve, groups=1):
    y, pull = jax.vjp(
        lambda x, kernel: convolved(case, x, kernel, convolution, groups), x, kernel
    )
    return y, *pull(gradient)


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_ofloops(name):
    case = CASES[name]
    arrays = arrays_of(case)
    with jax.enable_x64(True):
        found = jax.jit(lambda *a: with_gradients(case, *a))(*arrays)
    for ours, wanted in zip(found, loops(case, *arrays), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_padding_by_name_is_that_of_lax(padding):
    case = CASES["3x3 strided"]._replace(map=(8, 9))
    x, kernel, _ = map(jnp.float32, arrays_of(case))
    found = convolve(x, kernel, (2, 2), padding, dimension_numbers=LAYOUT)
    wanted = lax.conv_general_dilated(
        x, kernel, (2, 2), padding, dimension_numbers=LAYOUT
    )
    np.testing.assert_array_equal(found, wanted)


def program(case, dtype, platform, convolution=convolve, groups=1):
    x, kernel, gradient = (jnp.asarray(a, dtype) for a in arrays_of(case))
    kernel = kernel[:, :, : kernel.shape[2] // groups]
    return operations(
        lambda x, k, g: with_gradients(case, x, k, g, convolution, groups),
        x,
        kernel,
        gradient,
        platform=platform,
    )


@pytest.mark.parametrize("platform", ["tpu", "cuda"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "name", ["1x1", "1x1 strided", "3x3", "3x3 strided", "3x3 of a smaller result"]
)
def test_programs_for_accelerators_are_those_of_lax(name, dtype, platform):
    case = CASES[name]
    plain = program(case, dtype, platform, lax.conv_general_dilated)
    assert plain["convolution"] == 3
    assert program(case, dtype, platform) == plain


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_programs_for_a_cpu_multiply_matrices(dtype):
    for name in ("1x1 strided", "3x3 of a small map", "3x3 of a smaller result"):
        product = program(CASES[name], dtype, "cpu")
        assert product["dot_general"] == 3
        assert "convolution" not in product
    wide = program(CASES["3x3"], dtype, "cpu")
    assert (wide["convolution"], wide["dot_general"]) == (2, 1)


@pytest.mark.parametrize("name", ["1x1", "3x3", "3x3 of a smaller result"])
def test_in_16_bits_results_are_rounded_once(name):
    """To bfloat16, of a sum in float32: 2^-9 of the value, and of terms of its size."""
    case = CASES[name]
    arrays = [jnp.bfloat16(array) for array in arrays_of(case)]
    found = jax.jit(lambda *a: with_gradients(case, *a))(*arrays)
    exact = loops(case, *(np.float64(array) for array in arrays))
    for ours, wanted in zip(found, exact, strict=True):
        assert ours.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float64(ours), wanted, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_convolutions_of_few_channels_on_a_cpu_are_those_of_lax(dtype):
    case = CASES["3x3 with few channels"]
    plain = program(case, dtype, "cpu", lax.conv_general_dilated)
    assert program(case, dtype, "cpu") == plain


def test_a_program_for_two_platforms_holds_both():
    case = CASES["1x1"]
    x, kernel, gradient = map(jnp.float32, arrays_of(case))
    exported = jax.export.export(
        jax.jit(lambda *a: with_gradients(case, *a)), platforms=["cpu", "tpu"]
    )(x, kernel, gradient)
    text = exported.mlir_module()
    assert text.count("stablehlo.convolution") == text.count("stablehlo.dot_general")
    for ours, wanted in zip(
        exported.call(x, kernel, gradient),
        loops(case, x, kernel, gradient),
        strict=True,
    ):
        np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-4)


def test_layers_have_the_parameters_of_flax():
    x = jnp.ones((1, 4, 4, 3))
    init = nn.initializers.lecun_normal()
    ours = layers.conv(5, 3, dtype=jnp.float32, kernel_init=init, name="conv")
    plain = nn.Conv(5, (3, 3), use_bias=False, kernel_init=init)
    key = jax.random.key(0)
    assert jax.tree.all(
        jax.tree.map(
            lambda a, b: bool((a == b).all()), ours.init(key, x), plain.init(key, x)
        )
    )


def test_more_batch_axes_are_one():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4, 4, 5))
    conv = layers.conv(
        6, 1, dtype=jnp.float32, kernel_init=nn.initializers.ones, name="conv"
    )
    y, _ = conv.init_with_output(jax.random.key(0), x)
    flat, _ = conv.init_with_output(jax.random.key(0), x.reshape(6, 4, 4, 5))
    np.testing.assert_array_equal(y, flat.reshape(y.shape))
