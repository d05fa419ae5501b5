"""Faster R-CNN on the paper's networks (section 6.1, table 8).

    python -m rtj.main --config=configs/detection.py:voc,weights=runs/cosine
    python -m rtj.main --config=configs/detection.py:scenes

The first word is the data set: `voc` (Pascal VOC, trained on 2007 trainval and 2012
trainval, tested on 2007 test), `tfds:NAME`, `folder:PATH` (of Pascal VOC's layout, see
`rtj.transfer.detection.sources`), or `scenes`: the built-in digits on textured
canvases, for a laptop.

Keys, as `key=value` after it:

- `weights`: the classifier whose weights the backbone takes, what `rtj.load_weights`
  reads: a workdir, a file, `timm:NAME`, `torchvision:NAME`; with them batch norm keeps
  its statistics, and stem and stage 1 stay as they are; without them the network starts
  from random weights and learns all of it;
- `neck`: `c4` (the default) or `fpn`;
- `row`: of table 8, `b_standard`, `d_efficient`, `cosine`, `smooth`, `distill`, `mixup`
  or `distill_mixup`: names the run, and the network; which weights are that row's is up
  to you;
- `backbone`: any ResNet, SE-ResNet or ResNeXt of `rtj.list_models()`;
- `batch`, `epochs`, `data_dir`, `precision`, `seed`.

The paper gives neither sizes nor rate: values are gluon-cv's for VOC, short side 600
and long side at most 1000, 20 epochs of batch 4, rate 0.001 and a tenth of it from
epoch 14, weight decay 0.0005, the mean average precision of VOC 2007. gluon-cv's own
log reaches 78.3 with ResNet-50-B. bfloat16 is ours.

Cost: 20 epochs of 16,551 images of 600 x 800 pixels; on `scenes` 6 minutes of 2 cores.
Expected on VOC 2007 test (the paper's mAP): `b_standard` 77.54, `d_efficient` 78.30,
`cosine` 79.23, `smooth` 80.71, `distill` 80.96, `mixup` 81.10, `distill_mixup` 81.33.
It was not trained here. On `scenes` an mAP of 89.2 was measured.
"""

from typing import Any

from ml_collections import ConfigDict

from rtj.config import set_field
from rtj.config_args import one_of
from rtj.fields import DETECTION_NAMES, is_detection_name
from rtj.transfer.config_keys import ROWS as _ROWS
from rtj.transfer.config_keys import transfer_config

ROWS = tuple(_ROWS)


def get_config(argument: str = "") -> ConfigDict:
    """The config of a data set; see the file's docstring."""
    config, keys = transfer_config(
        "detection",
        argument or "voc",
        fields,
        is_detection_name,
        DETECTION_NAMES,
        keys={"neck": one_of("c4", "fpn")},
    )
    changes: dict[str, Any] = {}
    neck = keys.get("neck", config.detection.neck)
    if neck != config.detection.neck:
        changes |= NECKS["scenes" if config.data.name == "scenes" else "voc"][neck]
    if "weights" in keys:
        changes |= {"train.freeze_batch_norm": True, "train.frozen_stages": 2}
    for field, value in changes.items():
        set_field(config, field, value)
    return config


def fields(data: str) -> dict[str, Any]:
    """What the recipe of a data set sets."""
    recipe: dict[str, Any] = {
        "model.name": "resnet50d",
        "model.bn_group_size": 0,
        "tricks.base_lr": 0.001,
        "tricks.base_batch": 4,
        "tricks.linear_scaling": True,
        "tricks.step_epochs": (14.0,),
        "tricks.weight_decay": 5e-4,
        "tricks.nesterov": "none",
        "tricks.precision": "bf16",
        "train.epochs": 20.0,
        "train.batch_size": 4,
    }
    return recipe | (scenes() if data == "scenes" else {})


# What a neck that is not the recipe's own changes: of photos gluon-cv's
# `faster_rcnn_fpn_resnet50_v1b`.
NECKS: dict[str, dict[str, dict[str, Any]]] = {
    "voc": {
        "fpn": {
            "detection.neck": "fpn",
            "detection.rpn_channels": 256,
            "detection.roi_size": 7,
        }
    },
    "scenes": {
        "c4": {
            "detection.neck": "c4",
            "detection.anchor_sizes": (16.0, 24.0, 36.0, 52.0),
        }
    },
}


def scenes() -> dict[str, Any]:
    """The recipe at the size of a laptop; a map of stride 16 has but 6 x 6 cells there,
    so its neck is the pyramid."""
    return {
        "model.name": "resnet14d",
        "model.width": 16,
        "tricks.initializer": "msra",
        "tricks.base_lr": 0.02,
        "tricks.base_batch": 8,
        "tricks.schedule": "cosine",
        "tricks.warmup_epochs": 0.4,
        "tricks.weight_decay": 1e-4,
        "tricks.no_bias_decay": True,
        "tricks.nesterov": "outside",
        "tricks.precision": "fp32",
        "train.epochs": 7.0,
        "train.batch_size": 8,
        "train.eval_batch_size": 50,
        "train.log_every": 25,
        "data.image_size": 96,
        "data.flip": False,  # a mirrored 2 is no digit
        "data.mean": (127.0, 127.0, 127.0),
        "data.std": (60.0, 60.0, 60.0),
        "detection.neck": "fpn",
        "detection.short_side": 96,
        "detection.max_side": 96,
        "detection.max_objects": 5,
        "detection.anchor_sizes": (14.0, 22.0, 32.0, 44.0, 64.0),
        "detection.rpn_channels": 48,
        "detection.fpn_channels": 48,
        "detection.fc": 128,
        "detection.rpn_min_size": 2.0,
        "detection.train_pre_nms": 400,
        "detection.train_post_nms": 64,
        "detection.test_pre_nms": 400,
        "detection.test_post_nms": 64,
        "detection.rpn_batch": 64,
        "detection.roi_batch": 32,
        "detection.roi_positive": 0.5,
        "detection.roi_size": 7,
        "detection.max_detections": 30,
        "detection.metric": "area",
    }
