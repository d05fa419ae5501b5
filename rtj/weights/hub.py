"""`timm:NAME` and `torchvision:NAME`, from the Hugging Face hub or its local cache.

timm keeps each set of weights in a repository `timm/NAME` with `model.safetensors`
and `config.json`; torchvision's are there too, under the tags `tv_in1k` (its
IMAGENET1K_V1) and `tv2_in1k` (V2).
"""

import importlib
from pathlib import Path
from typing import Any

from rtj.errors import CheckpointError, ConfigError
from rtj.weights.weight_file import missing_extra

# What timm 1.0.31 takes for a name without a tag.
_TIMM_TAGS = {
    "a1_in1k": ("resnet18", "resnet34", "resnet50", "seresnet50"),
    "a1h_in1k": ("resnet101", "resnet152", "resnext50_32x4d"),
    "bt_in1k": ("resnet26", "resnet26d", "resnext50d_32x4d"),
    "ra2_in1k": (
        *("resnet18d", "resnet34d", "resnet50d", "resnet101d", "resnet152d"),
        *("resnet200d", "seresnet152d"),
    ),
    "gluon_in1k": (
        *("resnet50c", "resnet101c", "resnet152c"),
        *("resnet50s", "resnet101s", "resnet152s"),
    ),
    "fb_ssl_yfcc100m_ft_in1k": ("resnext101_32x4d",),
    "racm_in1k": ("seresnext50_32x4d",),
    "ra_in1k": ("densenet121",),
    "tv_in1k": ("densenet169", "densenet201", "inception_v3"),
    "ra4_e3600_r224_in1k": ("mobilenetv1_100",),
}
_TORCHVISION_TAGS = {
    "": "tv_in1k",
    "IMAGENET1K_V1": "tv_in1k",
    "IMAGENET1K_V2": "tv2_in1k",
}


def is_hub_name(path: str) -> bool:
    """Whether `path` is `timm:NAME` or `torchvision:NAME`."""
    return path.startswith(("timm:", "torchvision:"))


def repository(path: str) -> str:
    """The repository behind `timm:NAME[.TAG]` or `torchvision:NAME[.WEIGHTS]`.

    Raises:
        ConfigError: no tag is given and none is known, or an unknown `WEIGHTS`.
    """
    library, _, name = path.partition(":")
    model, _, tag = name.partition(".")
    if library == "torchvision":
        if tag not in _TORCHVISION_TAGS or not model:
            raise ConfigError(
                f"{path!r}: allowed is torchvision:NAME with nothing, "
                ".IMAGENET1K_V1 or .IMAGENET1K_V2 behind it"
            )
        return f"timm/{model}.{_TORCHVISION_TAGS[tag]}"
    if not tag:
        known = [tag for tag, models in _TIMM_TAGS.items() if model in models]
        if not known:
            raise ConfigError(
                f"{path!r} needs a tag, such as timm:resnet50d.ra2_in1k; known without "
                "one: " + ", ".join(m for ms in _TIMM_TAGS.values() for m in ms)
            )
        tag = known[0]
    return f"timm/{model}.{tag}"


def fetch(path: str) -> Path:
    """The local copy of hub weights, downloaded if there is none.

    Raises:
        CheckpointError: no network and not in the cache, or no such weights.
        ConfigError: a name as in `repository`, or huggingface_hub is missing.
    """
    name = repository(path)
    try:
        library: Any = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise missing_extra("huggingface_hub") from error
    # The cache first: without a network the client tries for 24 s before it looks.
    cached = library.try_to_load_from_cache(name, "model.safetensors")
    config = library.try_to_load_from_cache(name, "config.json")
    if isinstance(cached, str) and isinstance(config, str):
        return Path(cached)
    try:
        library.hf_hub_download(name, "config.json")
        return Path(library.hf_hub_download(name, "model.safetensors"))
    except Exception as error:
        # The client raises its own, httpx's and the operating system's errors.
        raise CheckpointError(
            f"{path!r} could not be had: {name} on the Hugging Face hub is neither in "
            f"the local cache nor reachable ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no details'})"
        ) from error
