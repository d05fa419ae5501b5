"""Tiny runs of segmentation and detection: configs, and what is compared of them."""

import numpy as np

import rtj
from rtj.config import set_field
from rtj.experiment import build
from rtj.inputs import training_batches
from rtj.sharding import device_batches

TASKS = ("segmentation", "detection")
SCORES = {"segmentation": ("mean_iou", "pixel_accuracy"), "detection": ("map",)}

_BOTH = {
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
_TASK = {
    "segmentation": {"data.image_size": 64, "segmentation.dropout": 0.1},
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
        "detection.max_detections": 10,
    },
}


def tiny(task, data="scenes", **changes):
    """A config that trains in seconds; `changes` as `{"section.key": value}`."""
    config = rtj.get_config(f"{task}:scenes")
    config.data.name = data
    for field, value in (_BOTH | _TASK[task] | changes).items():
        set_field(config, field, value)
    return config


def run_steps(config):
    """(experiment, last state, losses, indices) of all steps of a run."""
    experiment = build(config)
    state = experiment.init_state()
    losses, indices = [], []
    for batch in device_batches(training_batches(experiment, 0), experiment.mesh):
        state, metrics = experiment.train_step(state, batch)
        losses.append(float(metrics["loss"]))
        indices.append(np.asarray(batch["index"]))
    return experiment, state, np.array(losses), np.array(indices)
