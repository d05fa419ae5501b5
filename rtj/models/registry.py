"""Names to networks: `create_model("resnet50d")`, `list_models("resnet50*")`."""

import dataclasses
import fnmatch
from functools import partial
from typing import Any

from flax import linen as nn

from rtj.errors import unknown
from rtj.models.densenet import DenseNet
from rtj.models.inception import InceptionV3
from rtj.models.mobilenet import MobileNet
from rtj.models.resnet import ResNet

# A module class with its defaults; `Any`, since partial[T] is invariant in T.
Builder = partial[Any]

_DEPTHS: dict[int, dict[str, Any]] = {
    10: {"stage_sizes": (1, 1, 1, 1), "block": "basic"},
    14: {"stage_sizes": (1, 1, 1, 1)},
    18: {"stage_sizes": (2, 2, 2, 2), "block": "basic"},
    26: {"stage_sizes": (2, 2, 2, 2)},
    34: {"stage_sizes": (3, 4, 6, 3), "block": "basic"},
    50: {"stage_sizes": (3, 4, 6, 3)},
    101: {"stage_sizes": (3, 4, 23, 3)},
    152: {"stage_sizes": (3, 8, 36, 3)},
    # timm's; PaddleClas' ResNet200_vd is (3, 12, 48, 3), another network.
    200: {"stage_sizes": (3, 24, 36, 3)},
}
_B: dict[str, Any] = {"stride_in": "3x3"}
_VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "b": _B,
    "c": _B | {"stem": "deep"},
    "d": _B | {"stem": "deep", "pooled_shortcut": True},
    "s": _B | {"stem": "deep", "stem_width": 64},
}
_SE: dict[str, Any] = {"squeeze_excite": True}
_32X4D: dict[str, Any] = {"groups": 32, "group_width": 4}
_DENSE: dict[str, Any] = {
    "densenet121": {"block_sizes": (6, 12, 24, 16)},
    "densenet169": {"block_sizes": (6, 12, 32, 32)},
    "densenet201": {"block_sizes": (6, 12, 48, 32)},
}
_MULTIPLIERS = {"_025": 0.25, "_050": 0.5, "_075": 0.75, "": 1.0}


def _resnet(depth: int, variant: str, **extra: Any) -> Builder:
    return partial(ResNet, **_DEPTHS[depth], **_VARIANTS[variant], **extra)


_MODELS: dict[str, Builder] = {
    **{
        f"resnet{depth}{variant}": _resnet(depth, variant)
        for depth in _DEPTHS
        for variant in _VARIANTS
    },
    # From here on the plain name strides in the 3x3, as these networks always did.
    **{
        f"seresnet{depth}{suffix}": _resnet(depth, variant, **_SE)
        for depth in (50, 101, 152)
        for suffix, variant in (("", "b"), ("d", "d"))
    },
    "resnext50_32x4d": _resnet(50, "b", **_32X4D),
    "resnext50d_32x4d": _resnet(50, "d", **_32X4D),
    "resnext101_32x4d": _resnet(101, "b", **_32X4D),
    "seresnext50_32x4d": _resnet(50, "b", **_32X4D, **_SE),
    **{name: partial(DenseNet, **shape) for name, shape in _DENSE.items()},
    **{
        f"mobilenet{suffix}": partial(MobileNet, multiplier=multiplier)
        for suffix, multiplier in _MULTIPLIERS.items()
    },
    "inception_v3": partial(InceptionV3),
}


def list_models(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, in order of size within a family."""
    return [name for name in _MODELS if fnmatch.fnmatchcase(name, pattern)]


def create_model(name: str, **options: Any) -> nn.Module:
    """The Linen module called `name`, its defaults overridden by `options`.

    `resnet50` is the paper's plain network (stride in the first 1x1); timm's and
    torchvision's `resnet50` is `resnet50b` here. `seresnet*`, `resnext*` and
    `seresnext*` mean the same network in all three.

    Raises:
        ConfigError: unknown name or option; all allowed ones, nearest first.
    """
    if name not in _MODELS:
        raise unknown("model", name, _MODELS)
    allowed = model_options(name)
    for option in options:
        if option not in allowed:
            raise unknown(f"{name}'s option", option, allowed)
    return _MODELS[name](**options)


def model_options(name: str) -> list[str]:
    """The options that `create_model(name, ...)` takes.

    Raises:
        ConfigError: unknown name.
    """
    if name not in _MODELS:
        raise unknown("model", name, _MODELS)
    fields = dataclasses.fields(_MODELS[name].func)  # type: ignore[arg-type]
    return [field.name for field in fields if field.name not in ("parent", "name")]
