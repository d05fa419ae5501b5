"""What the config files of segmentation and detection share: rows, keys, fields."""

from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from rtj.config import default_config, set_field
from rtj.config_args import Parser, integer, one_of, parse_argument
from rtj.errors import ConfigError
from rtj.models import list_models
from rtj.tricks.low_precision import POLICIES

# The rows of the paper's tables 8 and 9: the network whose weights each starts from.
ROWS = {
    "b_standard": "resnet50b",
    "d_efficient": "resnet50d",
    "cosine": "resnet50d",
    "smooth": "resnet50d",
    "distill": "resnet50d",
    "mixup": "resnet50d",
    "distill_mixup": "resnet50d",
}

KEYS: dict[str, Parser] = {
    "row": one_of(*ROWS),
    "weights": str,
    "backbone": one_of(*list_models("resnet*"), *list_models("seresnet*")),
    "batch": integer(1),
    "epochs": integer(1),
    "data_dir": str,
    "precision": one_of(*POLICIES),
    "seed": integer(0),
}


def transfer_config(
    task: str,
    argument: str,
    changes: Callable[[str], dict[str, Any]],
    is_name: Callable[[str], bool],
    allowed: str,
    keys: dict[str, Parser] | None = None,
) -> tuple[ConfigDict, dict[str, Any]]:
    """The config of `DATA[,key=value...]`, and the values of the keys.

    Args:
        changes: of a data set, what its recipe sets.
        is_name, allowed: which names of data sets there are.
        keys: of the task alone.

    Raises:
        ConfigError: an unknown data set, key or value.
    """
    data, _, text = argument.partition(",")
    if not is_name(data):
        raise ConfigError(f"data set {data!r} is not allowed; allowed: {allowed}")
    text = f"data,{text}" if text else "data"
    values = parse_argument(text, rows=["data"], keys=KEYS | (keys or {}))[1]
    config = default_config(data, task)
    fields = changes(data)
    if "row" in values:
        fields["model.name"] = row_network(values["row"], fields["model.name"])
    for key, field in (
        ("weights", "train.weights"),
        ("backbone", "model.name"),
        ("batch", "train.batch_size"),
        ("data_dir", "data.data_dir"),
        ("precision", "tricks.precision"),
    ):
        if key in values:
            fields[field] = values[key]
    if "epochs" in values:
        fields |= stretched(fields, values["epochs"])
    for field, value in fields.items():
        set_field(config, field, value)
    config.seed = values.get("seed", 0)
    config.name = f"{task}-{values['row']}" if "row" in values else task
    return config, values


def row_network(row: str, network: str) -> str:
    """The network of a row, with as many layers as the recipe's `network`."""
    depth = "".join(c for c in network if c.isdigit())
    return ROWS[row].replace("50", depth)


def stretched(fields: dict[str, Any], epochs: int) -> dict[str, Any]:
    """A run of so many epochs, its steps of decay at the same fractions of it."""
    factor = epochs / fields["train.epochs"]
    steps = fields.get("tricks.step_epochs", ())
    return {
        "train.epochs": float(epochs),
        **({"tricks.step_epochs": tuple(factor * e for e in steps)} if steps else {}),
    }
