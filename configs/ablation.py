"""The paper's ablation, a row a name (tables 2, 4, 5 and 6).

    python -m rtj.main --config=configs/ablation.py:zero_gamma
    python -m rtj.main --config=configs/ablation.py:cosine,data=imagenet

| table | rows |
|---|---|
| 2 | `baseline` |
| 4, stacked in this order | `linear_scaling`, `warmup`, `zero_gamma`, `no_bias_decay`,
  `low_precision` |
| 5, on top of table 4 | `resnet50`, `resnet50b`, `resnet50c`, `resnet50d` |
| 6, on ResNet-50-D | `efficient`, `cosine`, `label_smoothing`; on top of these
  `distill`, `mixup`, or both: `distill_mixup` |
| 1, 3 | `baseline`, `low_precision`, `efficient` and `distill_mixup`, with `model=` |

`teacher` and `teacher_mixup` train what `distill` and `distill_mixup` learn from: a
ResNet-152-D with cosine decay and label smoothing, without and with mixup.

Keys, as `key=value` after the row:

- `mode`: `stack` (this row and all it stands on), `only` (the baseline and this row)
  or `without` (everything in this row's table but this row);
- `model`: a name of `rtj.list_models()`; Inception-V3 gets 299 pixels;
- `batch`: images a step, or `small` and `large` for the paper's two columns, 256 and
  1024, for which 32 and 128 stand on the digits;
- `images`: train on so many images only, the first of the training split;
- `teacher`: for rows with distillation, the workdir of a run (`:teacher`) or a weight
  file (`timm:resnet152d.gluon_in1k`), see `rtj.load_weights`;
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
77.91, `label_smoothing` 78.31, `distill` 78.67, `mixup` (the paper's row without
distillation) 79.15, `distill_mixup` 79.29.
On the digits every row ends near 98 to 99 %.
"""

from typing import Any

from ml_collections import ConfigDict

from rtj.config import default_config, set_field
from rtj.config_args import Parser, integer, one_of, parse_argument
from rtj.data.sources import resolve_auto
from rtj.errors import ConfigError
from rtj.fields import DATA_NAMES, is_data_name
from rtj.models import list_models, model_options
from rtj.recipes import TEACHERS, Recipe, recipe
from rtj.tricks.low_precision import POLICIES

TABLE4 = ("linear_scaling", "warmup", "zero_gamma", "no_bias_decay", "low_precision")
TABLE5 = {"resnet50": "", "resnet50b": "b", "resnet50c": "c", "resnet50d": "d"}
_SMOOTHED = ("cosine", "label_smoothing")
TABLE6 = (*_SMOOTHED, "distill", "mixup")
# No single tricks, so they have no mode but stack: network variant and tricks.
WHOLE = {
    "baseline": ("", ()),
    "efficient": ("d", TABLE4),
    "distill_mixup": ("d", TABLE4 + TABLE6),
    "teacher": ("d", TABLE4 + _SMOOTHED),
    "teacher_mixup": ("d", (*TABLE4, *_SMOOTHED, "mixup")),
}
ROWS = (*WHOLE, *TABLE4, *TABLE5, *TABLE6)


def data_name(text: str) -> str:
    """`auto` or the name of a data set."""
    if text != "auto" and not is_data_name(text):
        raise ValueError(f"auto | {DATA_NAMES}")
    return text


def batch_size(text: str) -> str | int:
    """`small`, `large` or an integer."""
    if text in ("small", "large"):
        return text
    try:
        return integer(1)(text)
    except ValueError as error:
        raise ValueError(f"small | large | {error}") from error


KEYS: dict[str, Parser] = {
    "mode": one_of("stack", "only", "without"),
    "model": one_of(*list_models()),
    "batch": batch_size,
    "images": integer(1),
    "teacher": str,
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
    network = size.teacher if row in TEACHERS.values() else size.network + variant
    small = row == "baseline" or mode == "only"
    changes: dict[str, Any] = {
        "data.data_dir": data_dir,
        **network_fields(keys.get("model", network), size),
        **batch_fields(keys.get("batch", "small" if small else "large"), size),
    }
    for trick in tricks:
        changes |= trick_fields(trick, size, keys.get("teacher", ""))
    if "teacher" in keys and "distill" not in tricks:
        raise ConfigError(f"teacher={keys['teacher']!r}: {row!r} has no distillation")
    if "precision" in keys:
        changes["tricks.precision"] = keys["precision"]
    if "images" in keys:
        changes |= image_fields(keys["images"], config, size)
    for field, value in changes.items():
        set_field(config, field, value)
    config.seed = keys.get("seed", 0)
    config.name = f"ablation-{row}" + ("" if mode == "stack" else f"-{mode}")
    return config


def contents(row: str, mode: str) -> tuple[str, tuple[str, ...]]:
    """The ResNet variant (`""`, b, c or d) and the tricks of a row."""
    if row in WHOLE:
        if mode != "stack":
            raise ConfigError(
                f"mode={mode!r} needs a row that is one trick, and {row!r} is not; "
                "allowed: stack"
            )
        return WHOLE[row]
    if row in TABLE5:
        if mode == "only":
            return TABLE5[row], ()
        return ("" if mode == "without" else TABLE5[row]), TABLE4
    if mode == "only":
        return "", (row,)
    if row in TABLE4:
        return "", without(TABLE4, row) if mode == "without" else up_to(TABLE4, row)
    if mode == "without":
        return "d", without(TABLE4 + TABLE6, row)
    return "d", TABLE4 + (
        up_to(_SMOOTHED, row) if row in _SMOOTHED else (*_SMOOTHED, row)
    )


def up_to(tricks: tuple[str, ...], row: str) -> tuple[str, ...]:
    """`row` and those before it."""
    return tricks[: tricks.index(row) + 1]


def without(tricks: tuple[str, ...], row: str) -> tuple[str, ...]:
    """All but `row`."""
    return tuple(trick for trick in tricks if trick != row)


def network_fields(network: str, size: Recipe) -> dict[str, Any]:
    """A network, its image size, and None for options of the recipe it has not."""
    known = {f"model.{option}" for option in (*model_options(network), "name")}
    foreign = {f for f in size.changes if f.startswith("model.") and f not in known}
    return {
        "model.name": network,
        **dict.fromkeys(foreign),
        **size.networks.get(network, {}),
    }


def batch_fields(batch: str | int, size: Recipe) -> dict[str, Any]:
    """The batch and its batch-norm groups, each the batch of one of the paper's 8 GPUs:
    32 of 256, 128 of 1024."""
    if isinstance(batch, str):
        batch = size.batches[batch == "large"]
    if batch % size.bn_groups:
        raise ConfigError(
            f"batch={batch} cannot be divided into {size.bn_groups} batch-norm groups "
            f"of one size; allowed: a multiple of {size.bn_groups}"
        )
    return {
        "train.batch_size": batch,
        "model.bn_group_size": batch // size.bn_groups,
    }


def image_fields(images: int, config: ConfigDict, size: Recipe) -> dict[str, Any]:
    """The first `images` of the training split; an epoch of these is shorter, and
    evaluations and checkpoints come after as many steps as in one of all, if it is
    known how many all are."""
    share = max(1.0, (size.images or 0) / images)
    return {
        "data.train_split": f"{config.data.train_split}[:{images}]",
        "train.eval_every": config.train.eval_every * share,
        "train.save_every": config.train.save_every * share,
    }


def trick_fields(trick: str, size: Recipe, teacher: str) -> dict[str, Any]:
    """What switching a trick on sets in the config.

    Raises:
        ConfigError: `distill` without a teacher.
    """
    if trick == "distill" and not teacher:
        raise ConfigError(
            "a row with distillation needs teacher=: the workdir of a run or a weight "
            "file; the paper's two are trained by --config=configs/ablation.py:teacher "
            "and, for mixup, :teacher_mixup"
        )
    fields: dict[str, dict[str, Any]] = {
        "linear_scaling": {"tricks.linear_scaling": True},
        "warmup": {"tricks.warmup_epochs": size.warmup_epochs},
        "zero_gamma": {"tricks.zero_gamma": True},
        "no_bias_decay": {"tricks.no_bias_decay": True},
        "low_precision": {"tricks.precision": "bf16"},
        "cosine": {"tricks.schedule": "cosine"},
        "label_smoothing": {"tricks.label_smoothing": 0.1},
        "distill": {"tricks.teacher": teacher, **size.distill_changes},
        "mixup": {
            "tricks.mixup": 0.2,
            "train.epochs": size.mixup_epochs,
            "tricks.step_epochs": size.mixup_step_epochs,
        },
    }
    return fields[trick]
