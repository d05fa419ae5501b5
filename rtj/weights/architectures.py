"""rtj's model names and timm's for the same networks."""

import dataclasses
import re
from typing import Any

from flax import linen as nn

from rtj.errors import unknown
from rtj.models import create_model, list_models

_MOBILENETS = {"": "100", "_075": "075", "_050": "050", "_025": "025"}


def architecture(name: str) -> str:
    """timm's name of the network that rtj calls `name`.

    The paper's plain bottleneck networks, which timm lacks, are `resnet50a` and so
    on: timm's `resnet50` strides elsewhere but has the same tensors. ResNet-18 and
    -34 have no bottleneck, so there plain and B are one network.
    """
    plain = re.fullmatch(r"(resnet(\d+))(b?)", name)
    if plain:
        same = plain[2] in ("18", "34") or plain[3] == "b"
        return plain[1] if same else f"{plain[1]}a"
    if name.startswith("mobilenet"):
        return f"mobilenetv1_{_MOBILENETS[name.removeprefix('mobilenet')]}"
    return name


def from_architecture(found: str) -> str | None:
    """rtj's name of a timm architecture, None if it has none."""
    names = [name for name in list_models() if architecture(name) == found]
    return names[-1] if names else None


def timm_options(found: str) -> dict[str, Any]:
    """The options that make rtj's network timm's `found`."""
    return {"activation": "relu6"} if found.startswith("mobilenetv1_") else {}


def registry_name(model: nn.Module) -> str:
    """The registry's name of a module: the one whose options differ least.

    A module made by `create_model(name, **options)` differs from its own entry in
    `options` alone; `create_model("resnet50b", stem="deep")` is `resnet50c`.
    """
    same = [n for n in list_models() if type(create_model(n)) is type(model)]
    if not same:
        raise unknown("model", type(model).__name__, list_models())
    return min(same, key=lambda name: len(changed_options(name, model)))


def changed_options(name: str, model: nn.Module) -> dict[str, Any]:
    """The options in which a module differs from `create_model(name)`."""
    default = create_model(name)
    return {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.name not in ("parent", "name")
        and getattr(model, field.name) != getattr(default, field.name)
    }
