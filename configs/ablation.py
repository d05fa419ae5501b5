"""The paper's ablation, a row a name (tables 2, 4, 5 and 6).

    python -m rtj.main --config=configs/ablation.py:zero_gamma
    python -m rtj.main --config=configs/ablation.py:cosine,data=imagenet

| table | rows |
|---|---|
| 2 | `baseline` |
| 4, stacked in this order | `linear_scaling`, `warmup`, `zero_gamma`, `no_bias_decay`,
  `low_precision` |
| 5, on top of table 4 | `resnet50`, `resnet50b`, `resnet50c`, `resnet50d` |
| 6, stacked on ResNet-50-D | `efficient`, `cosine`, `label_smoothing`, `mixup` |

Keys, as `key=value` after the row:

- `mode`: `stack` (this row and all before it), `only` (the baseline and this row) or
  `without` (everything in this row's table but this row);
- `model`: a name of `rtj.list_models()`;
- `batch`: images a step; the paper's two columns are 256 and 1024, on the digits 32
  and 128 stand for them;
- `data`: `auto`, `imagenet`, `digits`, `synthetic`, `tfds:NAME`, `folder:PATH` (of
  `train/CLASS/IMAGE`) or `tar:PATH` (of WebDataset shards); `auto` is ImageNet where
  `imagenet2012` is prepared, else the built-in digits; a PATH has no comma and, if
  relative, starts at the working directory;
- `data_dir`: the TFDS folder; empty is `$TFDS_DATA_DIR` or TFDS's default;
- `precision`: `fp32`, `bf16` or `fp16`;
- `seed`: an integer.

`baseline` and `mode=only` run at the small batch, everything else at the large one.

Cost: 120 epochs of ImageNet, 200 with mixup; 24 and 40 of the 4,000 digits, about 3
and 5 minutes on 2 cores.
Expected on ImageNet (the paper's top-1 at batch 1024): `linear_scaling` 75.17,
`warmup` 75.93, `zero_gamma` 76.37, `no_bias_decay` 76.03, `low_precision` 76.21,
`resnet50b` 76.66, `resnet50c` 76.87, `resnet50d` and `efficient` 77.16, `cosine`
77.91, `label_smoothing` 78.31, `mixup` (the paper's row without distillation) 79.15.
On the digits every row ends near 98 to 99 %.
"""

from typing import Any

from ml_collections import ConfigDict

from rtj.config import default_config, set_field
from rtj.config_args import Parser, integer, one_of, parse_argument
from rtj.data.sources import resolve_auto
from rtj.errors import ConfigError
from rtj.fields import DATA_NAMES, is_data_name
from rtj.models import list_models
from rtj.recipes import Recipe, recipe
from rtj.tricks.low_precision import POLICIES

TABLE4 = ("linear_scaling", "warmup", "zero_gamma", "no_bias_decay", "low_precision")
TABLE5 = {"resnet50": "", "resnet50b": "b", "resnet50c": "c", "resnet50d": "d"}
TABLE6 = ("cosine", "label_smoothing", "mixup")
ROWS = ("baseline", *TABLE4, *TABLE5, "efficient", *TABLE6)


def data_name(text: str) -> str:
    """`auto` or the name of a data set."""
    if text != "auto" and not is_data_name(text):
        raise ValueError(f"auto | {DATA_NAMES}")
    return text


KEYS: dict[str, Parser] = {
    "mode": one_of("stack", "only", "without"),
    "model": one_of(*list_models()),
    "batch": integer(1),
    "data": data_name,
    "data_dir": str,
    "precision": one_of(*POLICIES),
    "seed": integer(0),
}


def get_config(argument: str = "") -> ConfigDict:
    """The config of a row; see the file's docstring."""
    row, keys = parse_argument(argument, rows=ROWS, keys=KEYS)
    mode = keys.get("mode", "stack")
    data_dir = keys.get("data_dir", "")
    data = keys.get("data", "auto")
    data = resolve_auto(data_dir) if data == "auto" else data
    config = default_config(data)
    variant, tricks = contents(row, mode)
    size = recipe(data)
    small = row == "baseline" or mode == "only"
    batch = keys.get("batch", size.batches[0 if small else 1])
    changes: dict[str, Any] = {
        "data.data_dir": data_dir,
        "model.name": keys.get("model", size.network + variant),
        "model.bn_group_size": bn_group_size(batch, size.bn_groups),
        "train.batch_size": batch,
    }
    for trick in tricks:
        changes |= trick_fields(trick, size)
    if "precision" in keys:
        changes["tricks.precision"] = keys["precision"]
    for field, value in changes.items():
        set_field(config, field, value)
    config.seed = keys.get("seed", 0)
    config.name = f"ablation-{row}" + ("" if mode == "stack" else f"-{mode}")
    return config


def contents(row: str, mode: str) -> tuple[str, tuple[str, ...]]:
    """The ResNet variant (`""`, b, c or d) and the tricks of a row."""
    if row in ("baseline", "efficient"):
        if mode != "stack":
            raise ConfigError(
                f"mode={mode!r} needs a row that is one trick, and {row!r} is not; "
                "allowed: stack"
            )
        return ("", ()) if row == "baseline" else ("d", TABLE4)
    if row in TABLE5:
        if mode == "only":
            return TABLE5[row], ()
        return ("" if mode == "without" else TABLE5[row]), TABLE4
    if mode == "only":
        return "", (row,)
    table = TABLE4 if row in TABLE4 else TABLE4 + TABLE6
    variant = "" if row in TABLE4 else "d"
    if mode == "without":
        return variant, tuple(trick for trick in table if trick != row)
    return variant, table[: table.index(row) + 1]


def trick_fields(trick: str, size: Recipe) -> dict[str, Any]:
    """What switching a trick on sets in the config."""
    fields: dict[str, dict[str, Any]] = {
        "linear_scaling": {"tricks.linear_scaling": True},
        "warmup": {"tricks.warmup_epochs": size.warmup_epochs},
        "zero_gamma": {"tricks.zero_gamma": True},
        "no_bias_decay": {"tricks.no_bias_decay": True},
        "low_precision": {"tricks.precision": "bf16"},
        "cosine": {"tricks.schedule": "cosine"},
        "label_smoothing": {"tricks.label_smoothing": 0.1},
        "mixup": {
            "tricks.mixup": 0.2,
            "train.epochs": size.mixup_epochs,
            "tricks.step_epochs": size.mixup_step_epochs,
        },
    }
    return fields[trick]


def bn_group_size(batch: int, groups: int) -> int:
    """The batch of one of the paper's 8 GPUs: 32 of 256, 128 of 1024."""
    if batch % groups:
        raise ConfigError(
            f"batch={batch} cannot be divided into {groups} batch-norm groups of one "
            f"size; allowed: a multiple of {groups}"
        )
    return batch // groups
