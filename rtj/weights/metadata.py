"""What weight files say about their network and its images, in timm's words.

Keys are those of timm's `pretrained_cfg` (`architecture`, `num_classes`,
`input_size`, `crop_pct`, `crop_mode`, `interpolation`, `mean`, `std`,
`label_names`), and rtj's own `rtj_model`, `rtj_options`, `rtj_version`. In a
safetensors header values are text, so all but plain words are JSON there.
"""

import importlib.metadata
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from flax import linen as nn

from rtj.errors import CheckpointError
from rtj.preprocess import INTERPOLATIONS, Preprocess
from rtj.weights.architectures import (
    architecture,
    changed_options,
    from_architecture,
    registry_name,
    timm_options,
)

# Options that do not change what a network computes when it is evaluated, and the
# class count, which has a key of its own.
_LEFT_OUT = ("num_classes", "dtype", "zero_gamma", "initializer", "dropout")


_MAX_SIZE = 4096  # pixels; no network here was evaluated at a quarter of it


@dataclass(frozen=True)
class About:
    """Parsed metadata; None or empty where the file says nothing.

    Attributes:
        model: rtj's name of the network.
        options: what to give `create_model` beside the class count.
        architecture: timm's name.
        label_names: of the classes, in order.
        data_set: `imagenet` if timm's tag says so.
    """

    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    architecture: str | None = None
    num_classes: int | None = None
    preprocess: Preprocess | None = None
    label_names: tuple[str, ...] = ()
    data_set: str | None = None


def describe(
    model: nn.Module, how: Preprocess, label_names: tuple[str, ...] = ()
) -> dict[str, str]:
    """The metadata of a safetensors file."""
    name = registry_name(model)
    changed = changed_options(name, model)
    options = {k: v for k, v in changed.items() if k not in _LEFT_OUT}
    there = architecture(name)
    if timm_options(there).items() - changed.items():
        there = f"rtj_{name}"  # timm's network of that name computes something else
    values = {
        "num_classes": model.num_classes,
        "input_size": [3, how.size, how.size],
        "crop_pct": how.crop_pct,
        "mean": [value / 255 for value in how.mean],
        "std": [value / 255 for value in how.std],
        "rtj_options": options,
    } | ({"label_names": list(label_names)} if label_names else {})
    return {
        "format": "pt",
        "architecture": there,
        "crop_mode": "center",
        "interpolation": how.interpolation,
        "rtj_model": name,
        "rtj_version": _version(),
    } | {key: json.dumps(value) for key, value in values.items()}


def _version() -> str:
    try:
        return importlib.metadata.version("rtj")
    except importlib.metadata.PackageNotFoundError:
        return "not installed: run from a checkout"


def parse(metadata: Mapping[str, Any], source: str) -> About:
    """Metadata as text or values, checked.

    Raises:
        CheckpointError: names the key, its value and what is allowed.
    """
    values = {key: _decode(key, value) for key, value in metadata.items()}
    try:
        found = values.get("architecture")
        model = values.get("rtj_model") or (found and from_architecture(found))
        labels = values.get("label_names") or ()
        classes = values.get("num_classes")
        if labels and classes is not None and len(labels) != classes:
            raise ValueError(f"{len(labels)} label_names for num_classes={classes}")
        return About(
            model=model or None,
            options=_options(values.get("rtj_options")) or timm_options(str(found)),
            architecture=architecture(model) if model else found,
            num_classes=None if classes is None else int(classes),
            preprocess=_preprocess(values),
            label_names=tuple(str(label) for label in labels),
            data_set="imagenet" if str(values.get("tag")).endswith("in1k") else None,
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"the metadata of {source!r} is wrong: {error}"
        ) from error


def _decode(key: str, value: Any) -> Any:
    is_json = key in (
        *("num_classes", "input_size", "crop_pct", "mean", "std"),
        *("rtj_options", "label_names"),
    )
    try:
        return json.loads(value) if is_json and isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


def _options(found: Any) -> Mapping[str, Any]:
    if found is not None and not isinstance(found, Mapping):
        raise ValueError(f"rtj_options={found!r}; allowed: names and values")
    return found or {}


def _preprocess(values: Mapping[str, Any]) -> Preprocess | None:
    """timm's keys as ours; needs `input_size`, `mean` and `std`.

    timm's defaults stand in for the others, and its test-time size, which is an
    option there, is not used.
    """
    if not {"input_size", "mean", "std"} <= values.keys():
        return None
    channels, height, width = values["input_size"]
    if (channels, height) != (3, width) or not 1 <= height <= _MAX_SIZE:
        raise ValueError(
            f"input_size={values['input_size']}; allowed: [3, size, size], size 1 to "
            f"{_MAX_SIZE}"
        )
    crop_pct = float(values.get("crop_pct") or 0.875)
    if not 0 < crop_pct <= 1:
        raise ValueError(f"crop_pct={crop_pct}; allowed: in (0, 1]")
    if values.get("crop_mode", "center") != "center":
        raise ValueError(f"crop_mode={values['crop_mode']!r}; allowed: center")
    interpolation = values.get("interpolation", "bicubic")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"interpolation={interpolation!r}; allowed: {', '.join(INTERPOLATIONS)}"
        )
    return Preprocess(
        size=int(height),
        resize=math.floor(height / crop_pct),
        interpolation=interpolation,
        mean=_colour("mean", values["mean"], 0.0),
        std=_colour("std", values["std"], 1e-6),
    )


def _colour(key: str, value: Any, low: float) -> tuple[float, float, float]:
    r, g, b = (float(part) for part in value)
    if not all(low <= part <= 1 for part in (r, g, b)):
        raise ValueError(f"{key}={value}; allowed: three numbers in [{low:g}, 1]")
    return r * 255, g * 255, b * 255
