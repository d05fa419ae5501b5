"""The convolution that networks use: XLA's own, with products for XLA:CPU.

Every array of a step on a CPU passes through jaxlib's convolutions, and of those the
gradient of a kernel is slow: jaxlib 0.10.2 takes it for a convolution whose window is
the whole map, 53 ms for 64 x 256 channels on 32 x 32 cells where a matrix product takes
5.5 ms, and it transposes the activations, which makes XLA compute them a second time.
And where a kernel has more cells than its map, or the map of the result, XLA exchanges
the two, and jaxlib has no fast convolution of that kind: 16 ms each for the result and
the input's gradient of 3x3 kernels with 128 channels on 2 x 2 cells (128
examples), where products take 1. So a program lowered for a CPU has

- 1x1 convolutions and those of such small maps as matrix products, in both directions;
- kernel gradients of other windows as one product of shifted inputs and outputs.

In 16 bits XLA:CPU computes all of that in float32 and rounds results, either way.
Programs for TPU and GPU, and on a CPU the kernel gradients of few channels, hold the
convolutions of `jax.lax` and nothing else. The choice follows the platform that a
program is lowered for, not the machine that lowers it. Channels in groups are in
`rtj/models/grouped_convolution.py`.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from rtj.models.grouped_convolution import (
    depthwise,
    grouped_kernel_gradient,
    is_depthwise,
)
from rtj.models.window import (
    Window,
    both_gradients,
    input_gradient,
    kernel_gradient,
    plain,
    result_size,
    shifted,
    shifts,
)

# Below this XLA's own kernel gradient is faster: 46 against 53 ms at 32 channels on
# 64 x 64 cells, 40 against 23 ms at 64 on 32 x 32.
_FEWEST_CHANNELS = 64


def convolve(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` for Flax's `nn.Conv(conv_general_dilated=...)`.

    Args:
        lhs: (N, H, W, C), any float dtype.
        rhs: (height, width, C / groups, F), of the same dtype.
        dimension_numbers: Flax's, which say NHWC and HWIO.

    Returns:
        (N, H', W', F). Reverse mode only: forward mode raises TypeError.
    """
    spatial = rhs.ndim - 2
    dilation = tuple(rhs_dilation or (1,) * spatial)
    if spatial != 2 or any(size != 1 for size in lhs_dilation or ()):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            precision=precision,
        )
    strides = (window_strides[0], window_strides[1])
    if isinstance(padding, str):
        reach = [(k - 1) * d + 1 for k, d in zip(rhs.shape, dilation, strict=False)]
        padding = lax.padtype_to_pads(lhs.shape[1:3], reach, strides, padding)
    pads = tuple((low, high) for low, high in padding)
    window = Window(
        strides, pads, (dilation[0], dilation[1]), precision, feature_group_count
    )
    return _convolve(lhs, rhs, window)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    usual = partial(plain, window=window)
    restated = _restated(x.shape, kernel.shape, window)
    if restated is None:
        return usual(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=restated, default=usual)


def _forward(
    x: jax.Array, kernel: jax.Array, window: Window
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, kernel, window), (x, kernel)


def _backward(
    window: Window, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    restated = _restated(x.shape, kernel.shape, window)

    def of_restated(x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> Any:
        assert restated is not None
        return jax.vjp(restated, x, kernel)[1](gradient)

    operands = (x, kernel, gradient)
    usual = partial(both_gradients, window=window)
    if restated is not None:
        return lax.platform_dependent(*operands, cpu=of_restated, default=usual)
    product = grouped_kernel_gradient if window.groups > 1 else _kernel_gradient
    if window.groups == 1 and min(kernel.shape[2:]) < _FEWEST_CHANNELS:
        return usual(*operands)
    of_kernel = lax.platform_dependent(
        *operands,
        cpu=partial(product, window=window),
        default=partial(kernel_gradient, window=window),
    )
    return input_gradient(*operands, window), of_kernel


_convolve.defvjp(_forward, _backward)


def _restated(
    shape: tuple[int, ...], kernel: tuple[int, ...], window: Window
) -> Callable[[jax.Array, jax.Array], jax.Array] | None:
    """What a CPU computes in place of a convolution of operands of these shapes."""
    if window.groups > 1:
        if is_depthwise(kernel, window):
            return partial(depthwise, window=window)
        return None
    if kernel[:2] == (1, 1) and window.pads == ((0, 0), (0, 0)):
        return partial(_pointwise, window=window)
    cells = math.prod(shape[1:3]), math.prod(result_size(shape, kernel, window))
    if min(cells) < math.prod(kernel[:2]):
        return partial(_of_patches, window=window)
    return None


def _pointwise(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """A 1x1 convolution as (N H' W', C) times (C, F).

    Two axes, since XLA:CPU transposes operands with more before it contracts them.
    """
    down, right = window.strides
    x = x[:, ::down, ::right]
    rows = x.reshape(-1, x.shape[-1])
    y = jnp.dot(rows, kernel[0, 0], precision=window.precision)
    return y.reshape(*x.shape[:-1], -1)


def _of_patches(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """A convolution as (N H' W', height width C) times (height width C, F).

    In float32 at least: the gradient of x adds up one product for each cell of the
    kernel, and in 16 bits every sum would be rounded.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    patches = jnp.concatenate(shifted(x.astype(wide), kernel.shape, window), -1)
    rows = patches.reshape(-1, patches.shape[-1])
    columns = kernel.astype(wide).reshape(rows.shape[1], -1)
    y = jnp.dot(rows, columns, precision=window.precision)
    return y.reshape(*patches.shape[:-1], -1).astype(x.dtype)


def _kernel_gradient(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, window: Window
) -> jax.Array:
    """The gradient of a kernel, as one matrix product.

    Args:
        x: the convolution's input (N, H, W, C).
        kernel: of which the shape is used.
        gradient: of its output, (N, H', W', F).

    At stride 1 the copies shifted along a row are of x and those shifted along a column
    of the gradient, so that a 3x3 kernel takes 3 + 3 of them in place of 9. That adds
    products with the rows of padding; where those are many, and at other strides, all
    copies are of x.
    """
    shape, (height, width) = kernel.shape, gradient.shape[1:3]
    rows = x.shape[1] + sum(window.pads[0])
    if window.strides != (1, 1) or 2 * rows >= 3 * height:
        patches = jnp.concatenate(shifted(x, shape, window), -1)
        return _contract(patches, gradient, window).reshape(shape)
    x = jnp.pad(x, ((0, 0), *window.pads, (0, 0)))
    right = shifts(shape[1], window.dilation[1])
    wide = jnp.concatenate([x[:, :, j : j + width] for j in right], -1)
    tall = [
        jnp.pad(gradient, ((0, 0), (i, rows - height - i), (0, 0), (0, 0)))
        for i in shifts(shape[0], window.dilation[0])
    ]
    sums = _contract(wide, jnp.concatenate(tall, -1), window)
    sums = sums.reshape(shape[1], shape[2], shape[0], shape[3])
    return sums.transpose(2, 0, 1, 3)


def _contract(a: jax.Array, b: jax.Array, window: Window) -> jax.Array:
    """(N, H, W, A) and (N, H, W, B) to (A, B)."""
    rows = math.prod(a.shape[:-1])
    a, b = a.reshape(rows, -1), b.reshape(rows, -1)
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), precision=window.precision)
