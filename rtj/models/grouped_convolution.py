"""Convolutions in groups: XLA's own, with sums and products for XLA:CPU.

jaxlib 0.10.2 has no kernels for them on a CPU. It widens a depthwise one to all
channels (87 ms for 3x3 windows on 128 maps of 28 x 28 cells and 32 channels, and 86 for
the gradient of the input), and for the gradient of a kernel in groups it has nothing
but loops (2.5 s for 32 groups of 256 channels on 16 maps of 16 x 16 cells). So a
program lowered for a CPU has

- depthwise convolutions as sums of shifted maps, each times its cell of the kernel, in
  both directions: 3 and 1.4 ms of the above;
- kernel gradients in other groups as one product a group: 52 ms of the above.

In 16 bits sums are in float32 and results are rounded once. Programs for TPU and GPU
hold the convolutions of `jax.lax` and nothing else.
"""

import jax
import jax.numpy as jnp

from rtj.models.window import Window, shifted


def is_depthwise(shape: tuple[int, ...], window: Window) -> bool:
    """Whether a kernel of this shape has one channel for each, and makes one of it."""
    return shape[2] == 1 and shape[3] == window.groups


def depthwise(x: jax.Array, kernel: jax.Array, window: Window) -> jax.Array:
    """The sum over the kernel's cells of the map that each sees, times the cell."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    cells = kernel.astype(wide).reshape(-1, kernel.shape[-1])
    maps = shifted(x.astype(wide), kernel.shape, window)
    total = sum(
        (seen * cell for seen, cell in zip(maps[1:], cells[1:], strict=True)),
        maps[0] * cells[0],
    )
    return total.astype(x.dtype)


def grouped_kernel_gradient(
    x: jax.Array, kernel: jax.Array, gradient: jax.Array, window: Window
) -> jax.Array:
    """The gradient of a kernel in groups, as one product a group.

    Of (rows, cells, groups, C / groups) and (rows, groups, F / groups), over rows.
    """
    maps, per_group = shifted(x, kernel.shape, window), kernel.shape[2]
    seen = jnp.stack(maps, -2).reshape(-1, len(maps), window.groups, per_group)
    gradient = gradient.reshape(len(seen), window.groups, -1)
    sums = jnp.einsum("rkgc,rgf->kcgf", seen, gradient, precision=window.precision)
    return sums.reshape(kernel.shape)
