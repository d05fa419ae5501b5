"""The blocks of Inception-V3, under the names TensorFlow and PyTorch gave them.

A block is a table: each branch is a chain of convolutions, and a pool branch is
an average pool with a 1x1 convolution, or a maximum pool alone.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from rtj.models.layers import ModuleDef, Padding
from rtj.models.max_pool import max_pool


class Unit(NamedTuple):
    """One convolution of a branch; without padding if it strides."""

    name: str
    features: int
    kernel: int | tuple[int, int]
    stride: int = 1


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    features: int
    kernel: int | tuple[int, int]
    stride: int
    padding: Padding
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.conv(
            self.features,
            self.kernel,
            stride=self.stride,
            padding=self.padding,
            name="conv",
        )(x)
        return nn.relu(self.norm(name="bn")(x, train=train))


class Mixed(nn.Module):
    """Parallel branches, joined along the channels.

    Attributes:
        branches: chains of units. A chain's last item may be a tuple of units,
            which all read what stands before them.
        pool_features: of the pool branch's 1x1; 0 means the block strides, and
            its pool is the maximum without a convolution.
    """

    branches: tuple[tuple[Unit | tuple[Unit, ...], ...], ...]
    pool_features: int
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        outputs = []
        for branch in self.branches:
            y = [x]
            for item in branch:
                units = (item,) if isinstance(item, Unit) else item
                y = [self._unit(unit, y[0], train=train) for unit in units]
            outputs += y
        if self.pool_features:
            # The padding counts in the average, in PyTorch and gluon-cv alike.
            pooled = nn.avg_pool(x, (3, 3), (1, 1), ((1, 1), (1, 1)))
            unit = Unit("branch_pool", self.pool_features, 1)
            outputs.append(self._unit(unit, pooled, train=train))
        else:
            outputs.append(max_pool(x, 3, 2))
        return jnp.concatenate(outputs, axis=-1)

    def _unit(self, unit: Unit, x: jax.Array, *, train: bool) -> jax.Array:
        padding: Padding = "valid" if unit.stride > 1 else "symmetric"
        layer = ConvBN(
            unit.features,
            unit.kernel,
            unit.stride,
            padding,
            self.conv,
            self.norm,
            name=unit.name,
        )
        return layer(x, train=train)
