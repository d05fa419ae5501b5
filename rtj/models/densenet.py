"""DenseNet-BC (Huang et al., arXiv 1608.06993), the ImageNet networks.

Layers as in torchvision and gluon-cv: batch norm and ReLU before each
convolution, and transitions that halve the channels and average 2x2 pixels. An
odd last row or column is dropped there, as both libraries do, although this
package's ResNets keep it.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from rtj.models import layers
from rtj.models.layers import ModuleDef
from rtj.models.resnet import Stem
from rtj.tricks.initializers import kernel_initializer


class DenseLayer(nn.Module):
    """BN, ReLU, 1x1 to 4 x growth; BN, ReLU, 3x3 to growth; joined to the input."""

    growth: int
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y = nn.relu(self.norm(name="bn1")(x, train=train))
        y = self.conv(4 * self.growth, 1, name="conv1")(y)
        y = nn.relu(self.norm(name="bn2")(y, train=train))
        y = self.conv(self.growth, 3, name="conv2")(y)
        return jnp.concatenate([x, y], axis=-1)


class Transition(nn.Module):
    """BN, ReLU, 1x1 to half the channels, 2x2 average at stride 2."""

    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = nn.relu(self.norm(name="bn")(x, train=train))
        x = self.conv(x.shape[-1] // 2, 1, name="conv")(x)
        return nn.avg_pool(x, (2, 2), (2, 2))


class DenseNet(nn.Module):
    """A densely connected network over NHWC images; gives float32 logits.

    Attributes:
        block_sizes: layers in each of the four dense blocks.
        growth: channels that each layer adds.
        width: channels after the stem.
        num_classes, small_images, initializer, bn_group_size, bn_momentum,
            bn_epsilon, dropout, dtype: see `ResNet`.
    """

    block_sizes: Sequence[int] = (6, 12, 24, 16)
    growth: int = 32
    width: int = 64
    num_classes: int = 1000
    small_images: bool = False
    initializer: Literal["xavier", "msra"] = "xavier"
    bn_group_size: int = 0
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    native_size = 224

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Images (N, H, W, 3) to logits (N, classes); see `ResNet.__call__`."""
        conv, norm = layers.conv_and_norm(self)
        x = Stem("7x7", 0, self.width, self.small_images, conv, norm, name="stem")(
            images.astype(self.dtype), train=train
        )
        for block, size in enumerate(self.block_sizes, start=1):
            if block > 1:
                x = Transition(conv, norm, name=f"transition{block - 1}")(
                    x, train=train
                )
            for i in range(size):
                x = DenseLayer(self.growth, conv, norm, name=f"block{block}_{i}")(
                    x, train=train
                )
        x = nn.relu(norm(name="final_bn")(x, train=train))
        return layers.classify(
            x,
            self.num_classes,
            dropout=self.dropout,
            kernel_init=kernel_initializer(self.initializer),
            train=train,
        )
