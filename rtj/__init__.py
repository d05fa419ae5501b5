"""rtj: the bag of tricks of He et al. (arXiv 1812.01187) in JAX and Flax.

    import rtj
    model = rtj.create_model("resnet50d", num_classes=10)
    config = rtj.get_config("ablation:zero_gamma")
    result = rtj.train(config, "runs/zero_gamma")

Names load on first use, so `import rtj` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rtj.config_args import get_config as get_config
    from rtj.config_args import list_rows as list_rows
    from rtj.evaluation import evaluate as evaluate
    from rtj.loop import train as train
    from rtj.models import create_model as create_model
    from rtj.models import list_models as list_models
    from rtj.models import model_summary as model_summary
    from rtj.study.load import load_run as load_run
    from rtj.weights import load_weights as load_weights

_HOMES = {
    "create_model": "rtj.models",
    "evaluate": "rtj.evaluation",
    "get_config": "rtj.config_args",
    "list_models": "rtj.models",
    "list_rows": "rtj.config_args",
    "load_run": "rtj.study.load",
    "load_weights": "rtj.weights",
    "model_summary": "rtj.models",
    "train": "rtj.loop",
}

__all__ = [
    "create_model",
    "evaluate",
    "get_config",
    "list_models",
    "list_rows",
    "load_run",
    "load_weights",
    "model_summary",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rtj' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
