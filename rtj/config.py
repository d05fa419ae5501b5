"""Configs: the default (the paper's baseline), its checks, its hash, its diff.

A config is an `ml_collections.ConfigDict` with the sections `model`, `tricks`,
`train`, `data`, `mesh` and `checkpoint`, and for a task other than classification a
section of its name (`rtj.transfer.options`). Every trick is a field of it; what each
field may hold is in `rtj.fields`.
"""

import hashlib
import json
from typing import Any

from ml_collections import ConfigDict, config_dict

from rtj.errors import ConfigError
from rtj.fields import check_fields
from rtj.recipes import recipe
from rtj.transfer.options import SECTIONS, UNUSED

# Fields that change where or how a run executes, not what it computes: a workdir
# may be resumed with other values of these.
_EXECUTION_FIELDS = (
    "data.data_dir",
    "data.workers",
    "data.decoder",
    "data.max_bad_images",
    "mesh.devices",
    "mesh.shard_optimizer",
    "mesh.wait_s",
    "train.log_every",
    "train.max_loss_ratio",
    "train.stall_s",
    "checkpoint.keep",
    "checkpoint.keep_best",
    "checkpoint.keep_every",
)


# The paper's baseline (section 2.1). Where it leaves a value open, gluon-cv's:
# momentum 0.9, weight decay 1e-4 on everything, batch norm 0.9 and 1e-5.
_BASELINE: dict[str, Any] = {
    "task": "classification",  # segmentation, detection: see rtj.transfer.options
    "name": "baseline",
    "seed": 0,
    "model": {
        "name": "resnet50",
        "num_classes": 0,  # 0: the data set's
        "bn_group_size": 32,  # examples that share statistics; 0: the whole batch
        "bn_momentum": 0.9,
        # and the options of _MODEL_OPTIONS, each None: as the named network has it
    },
    "tricks": {
        "base_lr": 0.1,  # at base_batch
        "base_batch": 256,
        "linear_scaling": False,
        "warmup_epochs": 0.0,
        "schedule": "step",  # cosine; poly: see rtj.tricks.poly
        "step_epochs": (30.0, 60.0, 90.0),
        "step_factor": 0.1,
        "poly_power": 0.9,
        "momentum": 0.9,
        "nesterov": "inside",  # where the learning rate stands: MXNet's form
        "initializer": "xavier",
        "zero_gamma": False,
        "weight_decay": 1e-4,  # coupled
        "no_bias_decay": False,
        "precision": "fp32",
        "loss_scale_init": 2.0**15,  # this and the next two: fp16 only
        "loss_scale_cap": 2.0**16,
        "loss_scale_growth_steps": 2000,
        "label_smoothing": 0.0,  # eps
        "label_smoothing_form": "paper",  # eps/(K-1); uniform: eps/K
        "mixup": 0.0,  # alpha of Beta(alpha, alpha); 0: off
        "mixup_lambda": "step",  # one for each step or each example; cutmix's too
        "mixup_off_epochs": 0.0,  # this many last epochs without it (and cutmix)
        "cutmix": 0.0,  # alpha; beside mixup a fair coin decides
        "teacher": "",  # a run's workdir or a weight file; empty: no distillation
        "teacher_model": "",  # its network, unless the weights say it
        "teacher_precision": "",  # empty: as the student's
        "teacher_cache": False,  # its logits computed once; no augmentation then
        "distill_form": "paper",  # hard + soft loss; average: gluon-cv's half and half
        "temperature": 20.0,
        "ema": 0.0,  # decay a step of an average of the weights; 0: off
        "ema_batch_stats": True,  # average the running statistics too
    },
    "train": {
        "epochs": 120.0,
        "steps": 0,  # 0: from epochs
        "batch_size": 256,  # over all devices and micro-batches
        "eval_batch_size": 0,  # 0: a micro-batch of training
        "accumulate": 1,  # micro-batches of a step
        "log_every": 100,  # steps
        "eval_every": 1.0,  # epochs; 0: at the end only
        "save_every": 1.0,  # epochs; 0: at the end only
        "max_skipped_steps": 20,  # non-finite steps in a row before exit 4
        "max_loss_ratio": 0.0,  # to the median of the last 50, before exit 4; 0: off
        "stall_s": 600.0,  # without progress before exit 7; 0: no limit
        "weights": "",  # to start from; empty: random
        "head": "keep",  # reset: a fresh classifier
        "frozen_stages": 0,  # of stem, stage 1, stage 2, ...
        "freeze_batch_norm": False,  # running statistics, which stay
        "stage_lr_decay": 1.0,  # from a stage to the one before it
        "head_lr": 1.0,  # factor of the classifier's
    },
    "data": {
        "name": "imagenet",
        "data_dir": "",  # empty: $TFDS_DATA_DIR, or TFDS's own default
        "train_split": "train",
        "eval_split": "",  # empty: the data set's held-out split
        "image_size": 224,
        "eval_resize": 256,  # shorter side before the centre crop
        "crop_area": (0.08, 1.0),
        "crop_ratio": (3 / 4, 4 / 3),
        "crop_form": "paper",  # ratio uniform; log: uniform in its logarithm
        "repeats": 1,  # times each example comes in a row, cropped anew
        "interpolation": "bilinear",  # or bicubic
        "antialias": True,  # False: plain interpolation, as OpenCV's
        "flip": True,
        "color_jitter": "hsb",  # hue, saturation, brightness; bcs: gluon-cv's
        "jitter_strength": 0.4,
        "pca_noise": 0.1,
        "rand_augment_ops": 0,  # operations an image; 0: off
        "rand_augment_magnitude": 9.0,  # of 10
        "random_erasing": 0.0,  # probability
        "random_erasing_fill": "noise",  # or zero: the mean colour
        "mean": (123.68, 116.779, 103.939),  # RGB, 0 to 255
        "std": (58.393, 57.12, 57.375),
        "workers": 0,  # input threads; 0: chosen here
        "decoder": "auto",  # of JPEGs: simplejpeg or pillow, to the same pixels
        "max_bad_images": 0.001,  # fraction that may be undecodable before exit 5
    },
    "mesh": {
        "devices": 0,  # local devices that each process uses; 0: all
        "shard_optimizer": False,  # momentum split over the devices, not on each
        "wait_s": 120.0,  # how long processes wait for each other at the start
    },
    "checkpoint": {
        "keep": 2,  # so many of the newest stay
        "keep_best": 0,  # and so many of those with the best evaluation
        "keep_every": 0.0,  # and that of every so many epochs; 0: none
    },
}


_MODEL_OPTIONS: dict[str, type] = {
    "bn_epsilon": float,
    "dropout": float,
    "gram_norm": bool,  # of ResNets; None: see rtj.parts.choose_gram_norm
    "recompute": bool,  # of ResNets: less memory, a third more arithmetic
    "small_images": bool,  # a stem without stride
    "stem_pool": bool,  # False: one with stride 2, of ResNets
    "width": int,
    "stride_in": str,  # this and the next two: the tweaks of section 4
    "stem": str,
    "pooled_shortcut": bool,
}


def default_config(data: str = "imagenet", task: str = "classification") -> ConfigDict:
    """The paper's baseline with `data`'s recipe, locked.

    Args:
        data: `imagenet`, `digits`, `synthetic`, or `tfds:NAME` for any TFDS image
            classification set (which takes ImageNet's recipe).
        task: another one has its section, and no recipe: its config file has.
    """
    config = ConfigDict(_BASELINE)
    config.task, config.data.name = task, data
    for option, kind in _MODEL_OPTIONS.items():
        config.model[option] = config_dict.placeholder(kind)
    changes = recipe(data).changes
    if task in SECTIONS:
        config[task] = SECTIONS[task]
        changes = UNUSED
    for field, value in changes.items():
        set_field(config, field, value)
    return config.lock()


def set_field(config: ConfigDict, field: str, value: Any) -> None:
    """Set `section.key`; ConfigError for an integer too large for a float field."""
    section, key = field.split(".")
    try:
        with config.ignore_type():
            config[section][key] = value
    except OverflowError as error:
        raise ConfigError(f"{field}: {error}") from error


def check(config: ConfigDict) -> None:
    """Raise ConfigError for the first field whose value is not allowed."""
    flat = flatten(config)
    check_fields(flat)
    batch, micro = flat["train.batch_size"], flat["train.accumulate"]
    group = flat["model.bn_group_size"]
    if batch % micro:
        raise ConfigError(
            f"train.accumulate={micro} does not divide train.batch_size={batch}"
        )
    if group == 0 and micro > 1:
        raise ConfigError(
            f"model.bn_group_size=0 (the whole batch) cannot be kept with "
            f"train.accumulate={micro}; allowed: accumulate=1, or a group size "
            f"that divides {batch // micro}"
        )
    if group and (batch // micro) % group:
        raise ConfigError(
            f"model.bn_group_size={group} does not divide the {batch // micro} "
            f"examples of a step (train.batch_size / train.accumulate); allowed: 0 "
            f"for the whole batch, or a divisor of {batch // micro}"
        )
    if (flat["tricks.mixup"] or flat["tricks.cutmix"]) and (group or batch) == 1:
        raise ConfigError(
            f"model.bn_group_size={group} leaves one example to a group, and mixup and "
            "cutmix find no partner; allowed: 2 or more, or both of them 0"
        )
    _check_teacher_cache(flat)
    _check_unused(flat)
    cropped = flat["task"] == "classification"
    if cropped and flat["data.eval_resize"] < flat["data.image_size"]:
        raise ConfigError(
            f"data.eval_resize={flat['data.eval_resize']} is less than "
            f"data.image_size={flat['data.image_size']}; allowed: at least that"
        )
    if not flat["train.steps"] and not flat["train.epochs"]:
        raise ConfigError("train.steps and train.epochs are both 0; set one of them")


def _check_unused(flat: dict[str, Any]) -> None:
    """A trick that a task does not have is an error, not left out without a word."""
    for field, value in UNUSED.items() if flat["task"] != "classification" else ():
        if _plain(flat[field]) != _plain(value):
            raise ConfigError(
                f"{field}={flat[field]!r} has no meaning for {flat['task']}; "
                f"allowed: {value!r}"
            )


# What makes an image the same one each time that it is trained on.
_UNAUGMENTED: dict[str, Any] = {
    "data.crop_area": (1.0, 1.0),
    "data.flip": False,
    "data.color_jitter": "none",
    "data.pca_noise": 0,
    "data.rand_augment_ops": 0,
    "data.random_erasing": 0,
    "tricks.mixup": 0,
    "tricks.cutmix": 0,
}


def _check_teacher_cache(flat: dict[str, Any]) -> None:
    if not flat["tricks.teacher_cache"]:
        return
    if not flat["tricks.teacher"]:
        raise ConfigError("tricks.teacher_cache=True needs tricks.teacher")
    one_ratio = {"data.crop_ratio": (flat["data.crop_ratio"][1],) * 2}
    allowed = _UNAUGMENTED | one_ratio
    for field, value in allowed.items():
        found = flat[field]
        found = tuple(found) if isinstance(value, tuple) else found
        if found != value:
            raise ConfigError(
                f"tricks.teacher_cache=True needs images that are not augmented, and "
                f"{field} is {found!r}; allowed: {value!r}"
            )


def flatten(config: ConfigDict) -> dict[str, Any]:
    """`{"section.key": value}`, tuples and scalars only."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat |= {f"{key}.{inner}": leaf for inner, leaf in value.items()}
        else:
            flat[key] = value
    return flat


def config_hash(config: ConfigDict) -> str:
    """Eight hex digits of everything that decides what a run computes."""
    text = json.dumps(deciding_fields(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def difference(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """`field: old -> new` for every deciding field of two flat configs."""
    fields = sorted((old.keys() | new.keys()) - set(_EXECUTION_FIELDS))
    pairs = [(f, _plain(old.get(f)), _plain(new.get(f))) for f in fields]
    return [f"{f}: {a} -> {b}" for f, a, b in pairs if a != b]


def deciding_fields(config: ConfigDict) -> dict[str, Any]:
    """The flat config without the fields that only say how a run executes."""
    flat = flatten(config)
    return {f: _plain(v) for f, v in flat.items() if f not in _EXECUTION_FIELDS}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
