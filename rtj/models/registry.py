"""Names to networks: `create_model("resnet50d")`, `list_models("resnet50*")`."""

import dataclasses
import fnmatch
from collections.abc import Callable
from functools import partial
from typing import Any

from flax import linen as nn

from rtj.errors import unknown
from rtj.models.resnet import ResNet

_DEPTHS: dict[int, dict[str, Any]] = {
    14: {"stage_sizes": (1, 1, 1, 1)},
    18: {"stage_sizes": (2, 2, 2, 2), "block": "basic"},
    34: {"stage_sizes": (3, 4, 6, 3), "block": "basic"},
    50: {"stage_sizes": (3, 4, 6, 3)},
    101: {"stage_sizes": (3, 4, 23, 3)},
    152: {"stage_sizes": (3, 8, 36, 3)},
}
_VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "b": {"stride_in": "3x3"},
    "c": {"stride_in": "3x3", "stem": "deep"},
    "d": {"stride_in": "3x3", "stem": "deep", "pooled_shortcut": True},
}

_MODELS: dict[str, Callable[..., nn.Module]] = {
    f"resnet{depth}{variant}": partial(ResNet, **shape, **switches)
    for depth, shape in _DEPTHS.items()
    for variant, switches in _VARIANTS.items()
}


def list_models(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, in order of size within a family."""
    return [name for name in _MODELS if fnmatch.fnmatchcase(name, pattern)]


def create_model(name: str, **options: Any) -> nn.Module:
    """The Linen module called `name`, its defaults overridden by `options`.

    `resnet50` is the paper's plain network (stride in the first 1x1); timm's and
    torchvision's `resnet50` is `resnet50b` here.

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
    """The options that `create_model(name, ...)` takes."""
    build = _MODELS[name]
    module = build.func if isinstance(build, partial) else build
    fields = dataclasses.fields(module)  # type: ignore[arg-type]
    return [field.name for field in fields if field.name not in ("parent", "name")]
