"""FCN for semantic segmentation on the paper's networks (section 6.2, table 9).

    python -m rtj.main --config=configs/segmentation.py:ade20k,weights=runs/cosine
    python -m rtj.main --config=configs/segmentation.py:scenes

The first word is the data set: `ade20k` (TFDS's `scene_parse150`), `tfds:NAME`,
`folder:PATH` (images and masks of one name, see `rtj.transfer.segmentation.sources`),
or `scenes`: the built-in digits on textured canvases, for a laptop.

Keys, as `key=value` after it:

- `weights`: the classifier whose weights the backbone takes, what `rtj.load_weights`
  reads: a workdir, a file, `timm:NAME`, `torchvision:NAME`; random weights without it;
- `row`: of table 9, `b_standard`, `d_efficient`, `cosine`, `smooth`, `distill`, `mixup`
  or `distill_mixup`: names the run, and the network; which weights are that row's is up
  to you;
- `backbone`: any ResNet, SE-ResNet or ResNeXt of `rtj.list_models()`;
- `batch`, `epochs`, `data_dir`, `precision`, `seed`.

The paper gives neither rate nor crop: values are gluon-cv's for ADE20K, 120 epochs of
batch 16, rate 0.01 with polynomial decay and ten times that in the heads, crops of 480
from images scaled to 0.5 to 2 times 520 pixels, statistics of batch norm over the whole
batch, evaluation of whole images at one scale; bfloat16 is ours.

Cost: 120 epochs of 20,210 images of 480 pixels through a network dilated to 1/8; on
`scenes` about 8 minutes of 2 cores.
Expected on ADE20K (the paper's pixel accuracy / mean IoU): `b_standard` 78.08 / 37.05,
`d_efficient` 78.88 / 38.88, `cosine` 79.25 / 39.33, `smooth` 78.64 / 38.75, `distill`
78.97 / 38.90, `mixup` 78.47 / 37.99, `distill_mixup` 78.72 / 38.40. It was not trained
here. On `scenes` a mean IoU of 76.3 was measured.
"""

from typing import Any

from ml_collections import ConfigDict

from rtj.fields import SEGMENTATION_NAMES, is_segmentation_name
from rtj.transfer.config_keys import ROWS as _ROWS
from rtj.transfer.config_keys import transfer_config

ROWS = tuple(_ROWS)


def get_config(argument: str = "") -> ConfigDict:
    """The config of a data set; see the file's docstring."""
    return transfer_config(
        "segmentation",
        argument or "ade20k",
        fields,
        is_segmentation_name,
        SEGMENTATION_NAMES,
    )[0]


def fields(data: str) -> dict[str, Any]:
    """What the recipe of a data set sets."""
    recipe: dict[str, Any] = {
        "model.name": "resnet50d",
        "model.bn_group_size": 0,
        "tricks.base_lr": 0.01,
        "tricks.base_batch": 16,
        "tricks.linear_scaling": True,
        "tricks.schedule": "poly",
        "tricks.nesterov": "none",
        "tricks.precision": "bf16",
        "train.epochs": 120.0,
        "train.batch_size": 16,
        "train.eval_every": 5.0,
        "train.head_lr": 10.0,
        "data.image_size": 480,
    }
    return recipe | (scenes() if data == "scenes" else {})


def scenes() -> dict[str, Any]:
    """The recipe at the size of a laptop."""
    return {
        "model.name": "resnet10d",
        "model.width": 24,
        "model.stem_pool": False,  # so the map is 1/4 of the image
        "tricks.initializer": "msra",
        "tricks.base_lr": 0.6,
        "tricks.warmup_epochs": 1.0,
        "tricks.nesterov": "outside",
        "tricks.precision": "fp32",
        "train.epochs": 14.0,
        "train.batch_size": 8,
        "train.eval_batch_size": 20,
        "train.head_lr": 1.0,
        "train.log_every": 25,
        "data.image_size": 64,
        "data.flip": False,  # a mirrored 2 is no digit
        "segmentation.base_size": 96,
        "segmentation.scale": (0.9, 1.1),
        "segmentation.canvas": 96,
        "segmentation.skip": True,
        "segmentation.dropout": 0.0,
    }
