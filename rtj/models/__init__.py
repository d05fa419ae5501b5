"""Networks of the paper as Linen modules, by name."""

from rtj.models.registry import create_model, list_models, model_options
from rtj.models.summary import (
    ModelSummary,
    count_macs,
    count_parameters,
    model_summary,
)

__all__ = [
    "ModelSummary",
    "count_macs",
    "count_parameters",
    "create_model",
    "list_models",
    "model_options",
    "model_summary",
]
