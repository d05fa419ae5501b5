"""FCN, a fully convolutional network on a dilated ResNet.

Long et al. 2015 (arXiv 1411.4038) in the form of PSPNet and EncNet, which the paper
follows (section 6.2): the backbone's last two stages are dilated instead of strided,
so that the map is 1/8 of the image; a head gives class scores there, and bilinear
interpolation brings them to the image's size. In training a second head on stage 3
adds an auxiliary loss. A skip from stage 1, off as in PSPNet, is Long et al.'s own way
(section 4.2, "combining what and where") to edges finer than the map.

In the wild: torchvision interpolates with pixel centres at half integers
(`align_corners=False`), as here; gluon-cv's `BilinearResize2D` puts the outer pixels'
centres on each other, so its weights give slightly other scores here. gluon-cv's
backbone for segmentation is `resnet50s`, torchvision's is `resnet50b`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from rtj.errors import ConfigError
from rtj.models import create_model, list_models
from rtj.models.layers import ModuleDef, conv_and_norm
from rtj.models.registry import model_options
from rtj.models.resnet import ResNet


class Logits(NamedTuple):
    """Class scores (N, H, W, num_classes), float32; `aux` is None without the head."""

    out: jax.Array
    aux: jax.Array | None


class FCNHead(nn.Module):
    """3x3 convolution to a quarter of the channels, BN, ReLU, dropout, 1x1.

    The last convolution runs in float32 like a classifier: it is 0.1 % of the head's
    multiply-adds at 2048 channels and 21 classes.
    """

    num_classes: int
    dropout: float
    conv: ModuleDef
    norm: ModuleDef

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = self.conv(x.shape[-1] // 4, 3, name="conv1")(x)
        x = nn.relu(self.norm(name="bn1")(x, train=train))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return score_1x1(self.conv, x, self.num_classes, name="conv2")


def score_1x1(
    conv: ModuleDef, x: jax.Array, num_classes: int, **options: Any
) -> jax.Array:
    """Class scores by a 1x1 convolution with a bias, in float32."""
    dtype = jnp.promote_types(jnp.float32, x.dtype)
    return conv(num_classes, 1, use_bias=True, dtype=dtype, **options)(x)


class FCN(nn.Module):
    """Scores every pixel of NHWC images; see `create_fcn`.

    Attributes:
        backbone: its `dtype`, initialiser and batch-norm options hold for the heads
            too. Its parameters are those of the classifier less `fc`, under the
            name `backbone`; the heads are `classifier` and `aux_classifier`.
        num_classes: size of the scores, background included if it is a class.
        aux: whether there is an auxiliary head on stage 3.
        skip: whether a 1x1 convolution on stage 1, zero at first as in Long et al.,
            adds to the scores; its name is `skip_classifier`.
        dropout: rate in both heads.
    """

    backbone: ResNet
    num_classes: int
    aux: bool = True
    skip: bool = False
    dropout: float = 0.1

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> Logits:
        """Images (N, H, W, 3), normalised, any float dtype, to scores of each pixel.

        With `train=True` pass `mutable=["batch_stats"]` and an rng named `dropout`
        to `apply`. `aux` is given in evaluation too; a jitted function that does not
        use it does not compute it.
        """
        first, _, third, fourth = self.backbone(images, train=train, stages=True)
        conv, norm = conv_and_norm(self.backbone)

        def score(x: jax.Array, name: str) -> jax.Array:
            head = FCNHead(self.num_classes, self.dropout, conv, norm, name=name)
            return upsample(head(x, train=train), images.shape[1], images.shape[2])

        out = score(fourth, "classifier")
        if self.skip:
            fine = score_1x1(
                conv,
                first,
                self.num_classes,
                name="skip_classifier",
                kernel_init=nn.initializers.zeros_init(),
            )
            out += upsample(fine, images.shape[1], images.shape[2])
        return Logits(out, score(third, "aux_classifier") if self.aux else None)


def upsample(scores: jax.Array, height: int, width: int) -> jax.Array:
    """(N, h, w, C) to (N, height, width, C), bilinear, `align_corners=False`."""
    shape = (scores.shape[0], height, width, scores.shape[-1])
    return jax.image.resize(scores, shape, "bilinear", antialias=False)


def create_fcn(
    backbone: str,
    num_classes: int,
    *,
    aux: bool = True,
    skip: bool = False,
    dropout: float = 0.1,
    output_stride: int = 8,
    **options: Any,
) -> FCN:
    """FCN on the ResNet called `backbone` in the registry.

    Args:
        num_classes, aux, skip, dropout: see `FCN`.
        output_stride: 8 is torchvision's `replace_stride_with_dilation=[False, True,
            True]` and gluon-cv's `dilated=True`; 16 and 32 dilate less.
        options: of `create_model`; with `small_images` the map is 4 times, with
            `stem_pool=False` twice as dense as `output_stride` says.

    Raises:
        ConfigError: an unknown network or option, or a network that is no ResNet.
    """
    if "output_stride" not in model_options(backbone):
        allowed = [n for n in list_models() if "output_stride" in model_options(n)]
        raise ConfigError(
            f"backbone={backbone!r} cannot be dilated; allowed: {', '.join(allowed)}"
        )
    network = create_model(backbone, output_stride=output_stride, **options)
    assert isinstance(network, ResNet)
    return FCN(network, num_classes, aux=aux, skip=skip, dropout=dropout)
