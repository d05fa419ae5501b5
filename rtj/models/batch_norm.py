"""Batch norm whose statistics are taken over groups of a chosen size.

The paper trains on 8 GPUs with statistics per GPU: 32 images at batch 256, 128
at batch 1024. A jitted program over a mesh sees the whole batch, so the group
is an explicit option here: the batch is reshaped to (groups, group_size, ...),
which makes the result independent of the number of devices and, when a group
lies on one device, free of communication.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike


class BatchNorm(nn.Module):
    """Batch norm over NHWC activations (any rank >= 2 with channels last).

    Attributes:
        group_size: examples that share statistics, in batch order; 0 is the
            whole batch. In training the batch must be a multiple of it.
        momentum: weight of the old running statistics (0.9 in MXNet and Flax;
            PyTorch writes the same thing as 0.1).
        epsilon: added to the variance.
        dtype: dtype of the output. Statistics and parameters are float32.
        scale_init: initialiser of gamma.

    The running variance averages the biased variance, as MXNet and Flax do.
    PyTorch multiplies it by n/(n-1), n = group_size * height * width.
    """

    group_size: int = 0
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        channels = x.shape[-1]
        param_dtype = jnp.promote_types(jnp.float32, x.dtype)
        scale = self.param("scale", self.scale_init, (channels,), param_dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), param_dtype)
        running_mean = self.variable(
            "batch_stats", "mean", jnp.zeros, (channels,), param_dtype
        )
        running_var = self.variable(
            "batch_stats", "var", jnp.ones, (channels,), param_dtype
        )
        if not train:
            return _normalize(
                x, running_mean.value, running_var.value, scale, bias, self
            )
        grouped = _split_groups(x, self.group_size)
        mean, var = _moments(grouped, jax.lax.stop_gradient(running_mean.value))
        if not self.is_initializing():
            for running, value in ((running_mean, mean), (running_var, var)):
                now = value.mean(axis=0)
                running.value = self.momentum * running.value + (
                    (1 - self.momentum) * now
                )
        per_group = (mean.shape[0],) + (1,) * (x.ndim - 1) + (channels,)
        y = _normalize(
            grouped, mean.reshape(per_group), var.reshape(per_group), scale, bias, self
        )
        return y.reshape(x.shape)


def _split_groups(x: jax.Array, group_size: int) -> jax.Array:
    """(N, ..., C) to (groups, group_size, ..., C)."""
    batch = x.shape[0]
    size = group_size or batch
    if batch % size:
        raise ValueError(
            f"bn_group_size={group_size} does not divide the batch of {batch}; "
            "allowed: 0 (whole batch) or a divisor of the batch that one step sees"
        )
    return x.reshape(batch // size, size, *x.shape[1:])


def _moments(grouped: jax.Array, shift: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and biased variance of each group, shape (groups, C), in one pass.

    E[x^2] - E[x]^2 loses digits where the mean is large beside the deviation (1 % of
    the variance at 50 to 1 in float32). Both moments are taken about `shift`, the
    running mean, which costs no second pass over x and no communication.
    """
    axes = tuple(range(1, grouped.ndim - 1))
    values = grouped.astype(shift.dtype) - shift
    mean = values.mean(axes)
    var = jnp.maximum(jnp.square(values).mean(axes) - jnp.square(mean), 0)
    return mean + shift, var


def _normalize(
    x: jax.Array,
    mean: jax.Array,
    var: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    norm: BatchNorm,
) -> jax.Array:
    gain = scale * jax.lax.rsqrt(var + norm.epsilon)
    return ((x.astype(mean.dtype) - mean) * gain + bias).astype(norm.dtype)
