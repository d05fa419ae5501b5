"""Names to networks: `create_model("resnet50d")`, `list_models("resnet50*")`."""

import dataclasses
import difflib
import fnmatch
from collections.abc import Callable
from functools import partial
from typing import Any

from flax import linen as nn

from rtj.errors import ConfigError
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
        ConfigError: unknown name (with the nearest ones) or option (with all
            allowed ones).
    """
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=3)
        hint = f"nearest: {', '.join(near)}; " if near else ""
        raise ConfigError(f"model={name!r} is unknown; {hint}all: {', '.join(_MODELS)}")
    build = _MODELS[name]
    unknown = sorted(set(options) - set(model_options(name)))
    if unknown:
        raise ConfigError(
            f"{name} has no option {', '.join(unknown)}; "
            f"allowed: {', '.join(model_options(name))}"
        )
    return build(**options)


def model_options(name: str) -> list[str]:
    """The options that `create_model(name, ...)` takes."""
    build = _MODELS[name]
    module = build.func if isinstance(build, partial) else build
    fields = dataclasses.fields(module)  # type: ignore[arg-type]
    return [field.name for field in fields if field.name not in ("parent", "name")]
