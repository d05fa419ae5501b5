"""Batch norm whose statistics are taken over groups of a chosen size.

The paper trains on 8 GPUs with statistics per GPU: 32 images at batch 256, 128
at batch 1024. A jitted program over a mesh sees the whole batch, so the group
is an explicit option here: the batch is reshaped to (groups, group_size, ...),
which makes the result independent of the number of devices and, when a group
lies on one device, free of communication.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike

from rtj.models.gram_norm import pointwise_norm


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
    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        kernel: jax.Array | None = None,
        pool: Callable[[jax.Array], jax.Array] | None = None,
    ) -> jax.Array:
        """Normalise x, (N, ..., C), or the convolution of x with a 1x1 kernel.

        Args:
            train: take statistics of x and move the running ones; else use these.
            kernel: (K, C), for x of (N, ..., K): see `rtj.models.gram_norm`.
            pool: a maximum over windows of x, taken before the normalisation, which
                is monotonic, so that less is normalised and kept. The statistics are
                those of the whole x.
        """
        channels = x.shape[-1] if kernel is None else kernel.shape[-1]
        dtype = jnp.promote_types(jnp.float32, x.dtype)
        scale = self.param("scale", self.scale_init, (channels,), dtype)
        bias = self.param("bias", nn.initializers.zeros, (channels,), dtype)
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), dtype)
        var = self.variable("batch_stats", "var", jnp.ones, (channels,), dtype)
        if train and kernel is not None:
            grouped = _split_groups(x, self.group_size)
            y, *moments = pointwise_norm(grouped, kernel, scale, bias, self.epsilon)
        else:
            x = x if kernel is None else x @ kernel
            running = (mean.value, var.value)
            y, *moments = _normalize_directly(
                self, x, running, scale, bias, train=train, pool=pool
            )
        if not train:
            return y
        if not self.is_initializing():
            for old, value in zip((mean, var), moments, strict=True):
                now = value.mean(axis=0)
                old.value = self.momentum * old.value + (1 - self.momentum) * now
        return y.reshape(-1, *y.shape[2:]).astype(self.dtype)


def _normalize_directly(
    norm: BatchNorm,
    x: jax.Array,
    running: tuple[jax.Array, jax.Array],
    scale: jax.Array,
    bias: jax.Array,
    *,
    train: bool,
    pool: Callable[[jax.Array], jax.Array] | None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """x normalised, and what by: the running mean and variance, or the groups'.

    In training x is (groups, group_size, ..., C) then, and these are (groups, C).
    """
    mean, var = running
    kept, sign = x, None
    if pool is not None:
        # Of x itself nothing more is asked, or it would be kept beside sign * x.
        sign = jnp.where(scale < 0, -1, 1).astype(scale.dtype)
        x, mean, scale = x * sign.astype(x.dtype), mean * sign, scale * sign
        kept = pool(x)
    if not train:
        return _normalize(kept, mean, var, scale, bias, norm), *running
    shift = jax.lax.stop_gradient(mean)
    mean, var = _moments(_split_groups(x, norm.group_size), shift)
    kept = _split_groups(kept, norm.group_size)
    wide = (mean.shape[0],) + (1,) * (kept.ndim - 2) + (-1,)
    y = _normalize(kept, mean.reshape(wide), var.reshape(wide), scale, bias, norm)
    return y, mean if sign is None else mean * sign, var


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
