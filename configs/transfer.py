"""The paper's recipes on other classification data (table 7), and fine-tuning.

    python -m rtj.main --config=configs/transfer.py:places365,recipe=best
    python -m rtj.main --config=configs/transfer.py:folder:PATH,weights=runs/cosine

The row is the data set: `places365` (TFDS's `places365_small`, 1.8 million images of
365 classes), `tfds:NAME`, `folder:PATH`, `tar:PATH`, `imagenet` or `digits`.

Keys, as `key=value` after it:

- `recipe`: `efficient` (ResNet-50-D with table 4's tricks, the default) or `best`
  (cosine decay, label smoothing and mixup too), the paper's two rows, from random
  weights; or `finetune`, the default where `weights` are given;
- `weights`: to start from, what `rtj.load_weights` reads: a workdir, a file,
  `timm:NAME`, `torchvision:NAME`;
- `head`: `reset` (a fresh classifier, the default) or `keep`;
- `frozen`: how many of stem, stage 1, stage 2, ... stay as they are;
- `freeze_bn`: `yes` or `no`: batch norm uses the running statistics of the weights;
- `epochs`: of a fine-tuning, 20 unless given;
- `model`, `batch`, `images`, `data_dir`, `precision`, `seed`: as in `ablation.py`.

Fine-tuning: a tenth of the paper's rate, ten times that for the classifier, one epoch
of warmup, cosine decay and label smoothing. `train.stage_lr_decay` lowers the rate from
stage to stage. These values are common practice and not the paper's, which fine-tunes
no classifier.

Cost: Places365 is 1.4 epochs of ImageNet an epoch, and 120 or 200 of them.
Expected on Places365 (the paper's top-1 on the validation set): `efficient` 56.34,
`best` 56.70. It was not trained here.
"""

from typing import Any

from ml_collections import ConfigDict

from rtj.config import set_field
from rtj.config_args import Parser, get_named, integer, one_of, parse_argument
from rtj.errors import ConfigError
from rtj.fields import DATA_NAMES, is_data_name

PLACES = "tfds:places365_small"
RECIPES = {"efficient": "efficient", "best": "mixup", "finetune": "label_smoothing"}
PASSED_ON = ("model", "batch", "images", "data_dir", "precision", "seed")
KEYS: dict[str, Parser] = {
    "recipe": one_of(*RECIPES),
    "weights": str,
    "head": one_of("reset", "keep"),
    "frozen": integer(0),
    "freeze_bn": one_of("yes", "no"),
    "epochs": integer(1),
    **dict.fromkeys(PASSED_ON, str),
}


def get_config(argument: str = "") -> ConfigDict:
    """The config of a data set; see the file's docstring."""
    row, _, text = (argument or "places365").partition(",")
    data = PLACES if row == "places365" else row
    if not is_data_name(data):
        raise ConfigError(
            f"data set {row!r} is not allowed; allowed: places365 | {DATA_NAMES}"
        )
    keys = parse_argument(f"data,{text}" if text else "data", rows=["data"], keys=KEYS)[
        1
    ]
    tuned = "finetune" if "weights" in keys else "efficient"
    recipe = keys.get("recipe", tuned)
    passed = [f"{key}={keys[key]}" for key in PASSED_ON if key in keys]
    config = get_named(
        f"ablation:{','.join([RECIPES[recipe], f'data={data}', *passed])}"
    )
    for field, value in fields(recipe, keys).items():
        set_field(config, field, value)
    config.name = f"transfer-{recipe}"
    return config


def fields(recipe: str, keys: dict[str, Any]) -> dict[str, Any]:
    """What starting from weights changes.

    Raises:
        ConfigError: a key that goes with weights is given without them.
    """
    if "weights" not in keys:
        needing = {"head", "frozen", "freeze_bn", "epochs"} & keys.keys()
        if recipe == "finetune" or needing:
            what = "recipe=finetune" if recipe == "finetune" else min(needing)
            raise ConfigError(f"{what} needs weights=: a workdir, a file or timm:NAME")
        return {}
    head = keys.get("head", "reset")
    start = {
        "train.weights": keys["weights"],
        "train.head": head,
        "train.frozen_stages": keys.get("frozen", 0),
        "train.freeze_batch_norm": keys.get("freeze_bn") == "yes",
    }
    if recipe != "finetune":
        return start
    return start | {
        "train.epochs": float(keys.get("epochs", 20)),
        "train.head_lr": 10.0 if head == "reset" else 1.0,
        "tricks.base_lr": 0.01,
        "tricks.warmup_epochs": 1.0,
    }
