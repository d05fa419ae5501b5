"""Tiny runs of segmentation and detection: configs, and what is compared of them."""

from typing import Any

import rtj
from rtj.config import set_field
from tests.weights.networks import random_variables, tiny_model

TASKS = ("segmentation", "detection")
SCORES = {"segmentation": ("mean_iou", "pixel_accuracy"), "detection": ("map",)}

_BOTH: dict[str, Any] = {
    "model.name": "resnet14d",
    "model.width": 4,
    "model.small_images": None,
    "tricks.base_lr": 0.01,
    "train.batch_size": 8,
    "train.eval_batch_size": 4,
    "train.steps": 6,
    "train.eval_every": 0.0,
    "train.save_every": 0.0,
    "train.log_every": 1,
    "data.train_split": "train[:20]",
    "data.eval_split": "test[:5]",
    "data.flip": True,
    "mesh.devices": 1,
}
_TASK: dict[str, dict[str, Any]] = {
    "segmentation": {
        "model.stem_pool": None,
        "data.image_size": 64,
        "segmentation.skip": False,
        "segmentation.dropout": 0.1,
    },
    "detection": {
        "detection.neck": "c4",
        "detection.anchor_sizes": (16.0, 32.0),
        "detection.rpn_channels": 16,
        "detection.roi_size": 4,
        "detection.train_pre_nms": 72,
        "detection.train_post_nms": 16,
        "detection.test_pre_nms": 72,
        "detection.test_post_nms": 16,
        "detection.roi_batch": 8,
        "detection.score_threshold": 0.0,
        "detection.max_detections": 160,
    },
}


def tiny(task, argument="scenes", **changes):
    """A config that trains in seconds; `changes` as `{"section.key": value}`."""
    config = rtj.get_config(f"{task}:{argument}")
    for field, value in (_BOTH | _TASK[task] | changes).items():
        set_field(config, field, value)
    return config


def folder_config(task, root, weights=None, **changes):
    """An epoch in batches of four on a folder; a detector starts from `weights`."""
    argument = "scenes"  # its recipe is of this size
    if task == "detection" and weights:
        argument += f",weights={weights}"
    sizes = {
        "segmentation": {"data.image_size": 48, "segmentation.canvas": 64},
        "detection": {"detection.short_side": 64, "detection.max_side": 96},
    }
    splits = {"data.name": f"folder:{root}"}
    splits |= {"data.train_split": "train", "data.eval_split": "val"}
    epoch = {"train.batch_size": 4, "train.steps": 4, "train.eval_batch_size": 2}
    allowed = {"data.max_bad_images": 0.5, "tricks.base_lr": 0.001}
    return tiny(task, argument, **(splits | epoch | sizes[task] | allowed | changes))


def classifier_variables():
    """Of the classifier of 1,000 classes that the tiny networks' backbone is."""
    return random_variables(tiny_model(1000), seed=3)
