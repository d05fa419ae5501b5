"""The residual blocks of ResNet, ResNet-B/C/D, ResNeXt and SE-ResNet."""

from typing import Any, Literal

import jax
from flax import linen as nn

from rtj.errors import ConfigError
from rtj.models.average_pool import average_pool_ceil, average_pool_same
from rtj.models.layers import ModuleDef
from rtj.models.pointwise import pointwise_conv_norm
from rtj.models.squeeze_excite import SqueezeExcite

StrideIn = Literal["1x1", "3x3"]
DilatedPool = Literal["identity", "same"]


class Shortcut(nn.Module):
    """Projection of the shortcut: optional average pool, 1x1 convolution, BN.

    A pool of stride 1 is nothing, except where a dilated stage has lost its
    stride and `dilated_pool` is `same`. `gram`: see `Bottleneck`; here only where the
    features are four times the channels, or the Gram matrix would cost too much.
    """

    features: int
    stride: int
    dilated: bool
    pooled: bool
    dilated_pool: DilatedPool
    gram: bool
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        stride = self.stride
        if self.pooled and self.dilated and self.dilated_pool == "same":
            x = average_pool_same(x)
        elif self.pooled:
            x, stride = average_pool_ceil(x, stride), 1
        if stride > 1:
            x = self.conv(self.features, 1, stride=stride, name="conv")(x)
            return self.norm(name="bn")(x, train=train)
        return pointwise_conv_norm(
            x,
            self.features,
            self.conv,
            self.norm,
            names=("conv", "bn"),
            train=train,
            gram=self.gram and self.features >= 4 * x.shape[-1],
        )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the stride in the first (ResNet-18 and -34).

    Attributes: see `Bottleneck`; `stride_in`, `groups`, `group_width`, `bias_1x1` and
    `gram` say nothing here.
    """

    features: int
    stride: int
    first_dilation: int
    dilation: int
    stride_in: StrideIn
    pooled_shortcut: bool
    dilated_pool: DilatedPool
    groups: int
    group_width: int
    squeeze_excite: bool
    bias_1x1: bool
    gram: bool
    conv: ModuleDef
    norm: ModuleDef
    last_gamma: nn.initializers.Initializer
    expansion = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        shortcut = _shortcut(self, x, train=train)
        x = self.conv(
            self.features,
            3,
            stride=self.stride,
            dilation=self.first_dilation,
            name="conv1",
        )(x)
        x = nn.relu(self.norm(name="bn1")(x, train=train))
        x = self.conv(self.features, 3, dilation=self.dilation, name="conv2")(x)
        x = self.norm(name="bn2", scale_init=self.last_gamma)(x, train=train)
        if self.squeeze_excite:
            x = SqueezeExcite(self.conv, name="se")(x)
        return nn.relu(x + shortcut)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1; the stride in the first 1x1 (A) or in the 3x3 (B, C, D).

    Attributes:
        features: channels before the expansion by 4.
        stride: of the block.
        first_dilation, dilation: of the stage before and of this one, in the
            first block of a dilated stage; else both are the stage's. Where the
            stride stood in the 3x3, that convolution still sees the map of the
            stage before; behind a 1x1 that lost its stride it does not.
        groups, group_width: of the 3x3; 32 and 4 in ResNeXt-50 32x4d, where
            `group_width` counts channels per group at 64 features.
        squeeze_excite: after the last batch norm.
        bias_1x1: biases in the two 1x1 convolutions, as in gluon-cv's v1.
        gram: whether the last batch norm takes its statistics from the Gram matrix of
            what the last convolution sees, see `rtj.models.gram_norm`.
        stride_in, pooled_shortcut, dilated_pool: see `ResNet`.
        last_gamma: initialiser of the last batch norm's scale.
    """

    features: int
    stride: int
    first_dilation: int
    dilation: int
    stride_in: StrideIn
    pooled_shortcut: bool
    dilated_pool: DilatedPool
    groups: int
    group_width: int
    squeeze_excite: bool
    bias_1x1: bool
    gram: bool
    conv: ModuleDef
    norm: ModuleDef
    last_gamma: nn.initializers.Initializer
    expansion = 4

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        shortcut = _shortcut(self, x, train=train)
        in_1x1 = self.stride_in == "1x1"
        first, second = (self.stride, 1) if in_1x1 else (1, self.stride)
        inner = self.features * self.group_width * self.groups // 64
        if not inner or inner % self.groups:
            raise ConfigError(
                f"width gives {self.features} features, too few for {self.groups} "
                f"groups; allowed: multiples of {64 // self.group_width}"
            )
        bias = self.bias_1x1
        x = self.conv(inner, 1, stride=first, use_bias=bias, name="conv1")(x)
        x = nn.relu(self.norm(name="bn1")(x, train=train))
        x = self.conv(
            inner,
            3,
            stride=second,
            dilation=self.dilation if in_1x1 else self.first_dilation,
            groups=self.groups,
            name="conv2",
        )(x)
        x = nn.relu(self.norm(name="bn2")(x, train=train))
        x = pointwise_conv_norm(
            x,
            4 * self.features,
            self.conv,
            self.norm,
            names=("conv3", "bn3"),
            train=train,
            gram=self.gram,
            use_bias=bias,
            scale_init=self.last_gamma,
        )
        if self.squeeze_excite:
            x = SqueezeExcite(self.conv, name="se")(x)
        return nn.relu(x + shortcut)


def _shortcut(block: Any, x: jax.Array, *, train: bool) -> jax.Array:
    features = block.features * block.expansion
    if block.stride == 1 and x.shape[-1] == features:
        return x
    project = Shortcut(
        features,
        block.stride,
        block.dilation > 1,
        block.pooled_shortcut,
        block.dilated_pool,
        block.expansion > 1 and block.gram,
        block.conv,
        block.norm,
        name="downsample",
    )
    return project(x, train=train)
