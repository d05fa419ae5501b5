"""ResNet and the paper's tweaks B, C and D (section 4, figure 2).

Three switches tell the variants apart, and each can be set alone:

| name | `stride_in` | `stem` | `pooled_shortcut` |
|---|---|---|---|
| ResNet ("A", `resnet50`) | first 1x1 | 7x7 | no |
| ResNet-B (`resnet50b`) | 3x3 | 7x7 | no |
| ResNet-C (`resnet50c`) | 3x3 | three 3x3 | no |
| ResNet-D (`resnet50d`) | 3x3 | three 3x3 | yes |

timm and torchvision call ResNet-B `resnet50`. gluon-cv's `v1` has biases in its
1x1 convolutions; here no convolution has one. The paper's sentence on ResNet-C
gives stride 2 to the first two stem convolutions; its figure 2b and the
reference code give it to the first only, and so does this file.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike

from rtj.models import layers
from rtj.models.batch_norm import BatchNorm
from rtj.tricks.initializers import kernel_initializer
from rtj.tricks.zero_gamma import last_gamma_initializer

ModuleDef = Any


class Shortcut(nn.Module):
    """Projection of the shortcut: optional average pool, 1x1 convolution, BN."""

    features: int
    stride: int
    pooled: bool
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        stride = self.stride
        if self.pooled:
            x, stride = layers.average_pool_ceil(x, stride), 1
        x = self.conv(self.features, 1, stride=stride, name="conv")(x)
        return self.norm(name="bn")(x, train=train)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the stride in the first (ResNet-18 and -34)."""

    features: int
    stride: int
    stride_in: str
    pooled_shortcut: bool
    conv: ModuleDef
    norm: ModuleDef
    last_gamma: nn.initializers.Initializer
    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        shortcut = _shortcut(self, x, train=train)
        x = self.conv(self.features, 3, stride=self.stride, name="conv1")(x)
        x = nn.relu(self.norm(name="bn1")(x, train=train))
        x = self.conv(self.features, 3, name="conv2")(x)
        x = self.norm(name="bn2", scale_init=self.last_gamma)(x, train=train)
        return nn.relu(x + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1; the stride in the first 1x1 (A) or in the 3x3 (B, C, D)."""

    features: int
    stride: int
    stride_in: str
    pooled_shortcut: bool
    conv: ModuleDef
    norm: ModuleDef
    last_gamma: nn.initializers.Initializer
    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        shortcut = _shortcut(self, x, train=train)
        first, second = (
            (self.stride, 1) if self.stride_in == "1x1" else (1, self.stride)
        )
        x = self.conv(self.features, 1, stride=first, name="conv1")(x)
        x = nn.relu(self.norm(name="bn1")(x, train=train))
        x = self.conv(self.features, 3, stride=second, name="conv2")(x)
        x = nn.relu(self.norm(name="bn2")(x, train=train))
        x = self.conv(self.features * self.expansion, 1, name="conv3")(x)
        x = self.norm(name="bn3", scale_init=self.last_gamma)(x, train=train)
        return nn.relu(x + shortcut)


def _shortcut(block: Any, x: jax.Array, *, train: bool) -> jax.Array:
    features = block.features * block.expansion
    if block.stride == 1 and x.shape[-1] == features:
        return x
    project = Shortcut(
        features,
        block.stride,
        block.pooled_shortcut,
        block.conv,
        block.norm,
        name="downsample",
    )
    return project(x, train=train)


class Stem(nn.Module):
    """The input layers: 7x7 or three 3x3 convolutions, each with BN and ReLU.

    With `small_images` (32 pixels and less) nothing is strided or pooled and the
    7x7 becomes a 3x3, as in the CIFAR networks.
    """

    kind: str
    width: int
    features: int
    small_images: bool
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        stride = 1 if self.small_images else 2
        kernel = 3 if self.small_images else 7
        plan = [(self.features, kernel)]
        if self.kind == "deep":
            plan = [(self.width, 3), (self.width, 3), (self.features, 3)]
        for i, (features, size) in enumerate(plan, start=1):
            x = self.conv(
                features, size, stride=stride if i == 1 else 1, name=f"conv{i}"
            )(x)
            x = nn.relu(self.norm(name=f"bn{i}")(x, train=train))
        return x if self.small_images else layers.max_pool_3x3(x)


class ResNet(nn.Module):
    """A residual network over NHWC images; gives float32 logits.

    Attributes:
        stage_sizes: residual blocks in each of the four stages.
        block: `bottleneck` or `basic`.
        num_classes: size of the classifier.
        stride_in: `1x1` or `3x3`, where a bottleneck strides.
        stem: `7x7` or `deep` (three 3x3).
        pooled_shortcut: average pool before a strided shortcut's 1x1.
        width: channels of the first stage (64 in the paper).
        stem_width: channels of the deep stem's first two convolutions; 0 is
            width / 2, as in the paper.
        small_images: a stem without stride, for images of 32 pixels and less.
        zero_gamma: see `rtj.tricks.zero_gamma`.
        initializer: see `rtj.tricks.initializers`.
        bn_group_size, bn_momentum, bn_epsilon: see `BatchNorm`.
        dropout: rate before the classifier; 0 in the paper.
        dtype: dtype of activations and convolutions.
    """

    stage_sizes: Sequence[int] = (3, 4, 6, 3)
    block: Literal["bottleneck", "basic"] = "bottleneck"
    num_classes: int = 1000
    stride_in: Literal["1x1", "3x3"] = "1x1"
    stem: Literal["7x7", "deep"] = "7x7"
    pooled_shortcut: bool = False
    width: int = 64
    stem_width: int = 0
    small_images: bool = False
    zero_gamma: bool = False
    initializer: Literal["xavier", "msra"] = "xavier"
    bn_group_size: int = 0
    bn_momentum: float = 0.9
    bn_epsilon: float = 1e-5
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        """Images (N, H, W, 3), normalised, any float dtype, to logits (N, classes).

        With `train=True` pass `mutable=["batch_stats"]` to `apply`, and an rng
        named `dropout` if `dropout` is not 0.
        """
        kernel_init = kernel_initializer(self.initializer)
        conv = partial(layers.conv, dtype=self.dtype, kernel_init=kernel_init)
        norm = partial(
            BatchNorm,
            group_size=self.bn_group_size,
            momentum=self.bn_momentum,
            epsilon=self.bn_epsilon,
            dtype=self.dtype,
        )
        block = {"basic": BasicBlock, "bottleneck": Bottleneck}[self.block]
        x = Stem(
            self.stem,
            self.stem_width or self.width // 2,
            2 * self.stem_width or self.width,
            self.small_images,
            conv,
            norm,
            name="stem",
        )(images.astype(self.dtype), train=train)
        for stage, size in enumerate(self.stage_sizes):
            for i in range(size):
                x = block(
                    features=self.width * 2**stage,
                    stride=2 if stage > 0 and i == 0 else 1,
                    stride_in=self.stride_in,
                    pooled_shortcut=self.pooled_shortcut,
                    conv=conv,
                    norm=norm,
                    last_gamma=last_gamma_initializer(self.zero_gamma),
                    name=f"layer{stage + 1}_{i}",
                )(x, train=train)
        return layers.classify(
            x,
            self.num_classes,
            dropout=self.dropout,
            kernel_init=kernel_init,
            train=train,
        )
