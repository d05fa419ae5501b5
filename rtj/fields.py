"""What every config field may hold, and the one error for what it may not."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from rtj.data.crop import FORMS
from rtj.data.images import DECODERS
from rtj.data.resize import INTERPOLATIONS
from rtj.errors import ConfigError, unknown
from rtj.models import list_models
from rtj.tricks.distillation import FORMS as FORMS_OF_DISTILLATION
from rtj.tricks.initializers import INITIALIZERS
from rtj.tricks.low_precision import POLICIES

Check = tuple[Callable[[Any], bool], str]


def _one_of(*values: str) -> Check:
    return (lambda v: v in values), " | ".join(values)


# Integers end up as int32 and numbers as float32.
_MAX_INTEGER = 2**31 - 1
_MAX_NUMBER = 3e38


def _integer(low: int, high: int = _MAX_INTEGER) -> Check:
    return (
        lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high
    ), f"an integer of at least {low}, at most {high}"


def _number(low: float, high: float = math.inf, *, open_high: bool = False) -> Check:
    def holds(v: Any) -> bool:
        is_number = isinstance(v, int | float) and not isinstance(v, bool)
        return is_number and low <= v and (v < high if open_high else v <= high)

    if high == math.inf:
        return (lambda v: holds(v) and v <= _MAX_NUMBER), f"a number of at least {low}"
    return holds, f"a number in [{low}, {high}{')' if open_high else ']'}"


def _is_row(v: Any) -> bool:
    return isinstance(v, tuple | list)


def _range(low: float, high: float) -> Check:
    def holds(v: Any) -> bool:
        return (
            _is_row(v) and len(v) == 2 and low < v[0] <= v[1] <= min(high, _MAX_NUMBER)
        )

    return holds, f"two numbers low <= high in ({low}, {high}]"


def _numbers(count: int, low: float) -> Check:
    def holds(v: Any) -> bool:
        return (
            _is_row(v) and len(v) == count and all(low <= x <= _MAX_NUMBER for x in v)
        )

    return holds, f"{count} numbers of at least {low}"


def _optional(check: Check) -> Check:
    return (lambda v: v is None or check[0](v)), f"{check[1]}, or None for the model's"


DATA_NAMES = "digits | imagenet | synthetic | tfds:NAME | folder:PATH | tar:PATH"


def is_data_name(text: Any) -> bool:
    """Whether `text` is of the form that names a data set; it may not be there."""
    kind, _, rest = text.partition(":")
    return text in ("digits", "imagenet", "synthetic") or (
        kind in ("tfds", "folder", "tar") and rest != ""
    )


SEGMENTATION_NAMES = "scenes | ade20k | tfds:NAME | folder:PATH"
DETECTION_NAMES = "scenes | voc | tfds:NAME | folder:PATH"


def is_segmentation_name(text: Any) -> bool:
    """Whether `text` is of the form that names images with masks."""
    kind, _, rest = text.partition(":")
    return text in ("scenes", "ade20k") or (kind in ("tfds", "folder") and rest != "")


def is_detection_name(text: Any) -> bool:
    """Whether `text` is of the form that names images with boxes."""
    kind, _, rest = text.partition(":")
    return text in ("scenes", "voc") or (kind in ("tfds", "folder") and rest != "")


_TEXT: Check = (lambda v: isinstance(v, str)), "text"
_BOOL: Check = (lambda v: isinstance(v, bool)), "True | False"


def _rises(v: Any, high: float) -> bool:
    in_bounds = _is_row(v) and all(0 < x <= high for x in v)
    return in_bounds and list(v) == sorted(set(v))


_MAX_EPOCHS = 1_000_000
_EPOCHS = _number(0, _MAX_EPOCHS)
_RISING: Check = (
    lambda v: _rises(v, _MAX_EPOCHS),
    f"rising positive epochs, at most {_MAX_EPOCHS}",
)

_MAX_LOSS_RATIO: Check = (
    lambda v: _number(0)[0](v) and (v == 0 or v > 1),
    "0 (off), or a number above 1",
)

TASKS = ("classification", "segmentation", "detection")
_RISING_SIZES: Check = (
    lambda v: len(v) > 0 and _rises(v, _MAX_NUMBER),
    "rising positive numbers, at least one",
)

FIELDS: dict[str, Check] = {
    "task": _one_of(*TASKS),
    "name": (
        lambda v: isinstance(v, str) and v != "" and v.isprintable(),
        "a name, of characters that can be printed",
    ),
    "seed": _integer(0, 2**32 - 1),  # JAX's keys take no more than 32 bits of it
    "model.name": (lambda v: v in list_models(), " | ".join(list_models())),
    "model.num_classes": _integer(0),
    "model.bn_group_size": _integer(0),
    "model.bn_momentum": _number(0, 1, open_high=True),
    "model.bn_epsilon": _optional(_number(0)),
    "model.dropout": _optional(_number(0, 1, open_high=True)),
    "model.gram_norm": _optional(_BOOL),
    "model.recompute": _optional(_BOOL),
    "model.small_images": _optional(_BOOL),
    "model.stem_pool": _optional(_BOOL),
    "model.width": _optional(_integer(1)),
    "model.stride_in": _optional(_one_of("1x1", "3x3")),
    "model.stem": _optional(_one_of("7x7", "deep")),
    "model.pooled_shortcut": _optional(_BOOL),
    "tricks.base_lr": _number(0, 1e30),
    "tricks.base_batch": _integer(1),
    "tricks.linear_scaling": _BOOL,
    "tricks.warmup_epochs": _EPOCHS,
    "tricks.schedule": _one_of("step", "cosine", "poly"),
    "tricks.poly_power": _number(1e-3),
    "tricks.step_epochs": _RISING,
    "tricks.step_factor": _number(0, 1),
    "tricks.momentum": _number(0, 1, open_high=True),
    "tricks.nesterov": _one_of("inside", "outside", "none"),
    "tricks.initializer": _one_of(*INITIALIZERS),
    "tricks.zero_gamma": _BOOL,
    "tricks.weight_decay": _number(0),
    "tricks.no_bias_decay": _BOOL,
    "tricks.precision": _one_of(*POLICIES),
    "tricks.loss_scale_init": _number(1),
    "tricks.loss_scale_cap": _number(1),
    "tricks.loss_scale_growth_steps": _integer(1),
    "tricks.label_smoothing": _number(0, 1, open_high=True),
    "tricks.label_smoothing_form": _one_of("paper", "uniform"),
    "tricks.mixup": _number(0),
    "tricks.mixup_lambda": _one_of("step", "example"),
    "tricks.mixup_off_epochs": _EPOCHS,
    "tricks.cutmix": _number(0),
    "tricks.teacher": _TEXT,
    "tricks.teacher_model": (
        lambda v: v == "" or v in list_models(),
        "empty, or " + " | ".join(list_models()),
    ),
    "tricks.teacher_precision": (
        lambda v: v == "" or v in POLICIES,
        "empty (as the student's) | " + " | ".join(POLICIES),
    ),
    "tricks.teacher_cache": _BOOL,
    "tricks.distill_form": _one_of(*FORMS_OF_DISTILLATION),
    "tricks.temperature": _number(1e-3),
    "tricks.ema": _number(0, 1, open_high=True),
    "tricks.ema_batch_stats": _BOOL,
    "train.epochs": _EPOCHS,
    "train.steps": _integer(0),
    "train.batch_size": _integer(1),
    "train.eval_batch_size": _integer(0),
    "train.accumulate": _integer(1),
    "train.log_every": _integer(1),
    "train.eval_every": _EPOCHS,
    "train.save_every": _EPOCHS,
    "train.max_skipped_steps": _integer(0),
    "train.max_loss_ratio": _MAX_LOSS_RATIO,
    "train.stall_s": _number(0),
    "train.weights": _TEXT,
    "train.head": _one_of("keep", "reset"),
    "train.frozen_stages": _integer(0),
    "train.freeze_batch_norm": _BOOL,
    "train.stage_lr_decay": _number(1e-6, 1),
    "train.head_lr": _number(0),
    "data.name": (is_data_name, DATA_NAMES),
    "data.data_dir": _TEXT,
    "data.train_split": _TEXT,
    "data.eval_split": _TEXT,
    "data.image_size": _integer(1),
    "data.eval_resize": _integer(1),
    "data.crop_area": _range(0, 1),
    "data.crop_ratio": _range(0, math.inf),
    "data.crop_form": _one_of(*FORMS),
    "data.repeats": _integer(1),
    "data.interpolation": _one_of(*INTERPOLATIONS),
    "data.antialias": _BOOL,
    "data.flip": _BOOL,
    "data.color_jitter": _one_of("none", "hsb", "bcs"),
    "data.jitter_strength": _number(0, 1, open_high=True),
    "data.pca_noise": _number(0),
    "data.rand_augment_ops": _integer(0),
    "data.rand_augment_magnitude": _number(0, 10),
    "data.random_erasing": _number(0, 1),
    "data.random_erasing_fill": _one_of("noise", "zero"),
    "data.mean": _numbers(3, 0),
    "data.std": _numbers(3, 1e-6),
    "data.workers": _integer(0),
    "data.decoder": _one_of(*DECODERS),
    "data.max_bad_images": _number(0, 0.5),
    "mesh.devices": _integer(0),
    "mesh.shard_optimizer": _BOOL,
    "mesh.wait_s": _number(1),
    "checkpoint.keep": _integer(1),
    "checkpoint.keep_best": _integer(0),
    "checkpoint.keep_every": _number(0),
}


# Of a task other than classification: its section, and fields that mean another thing.
TASK_FIELDS: dict[str, dict[str, Check]] = {
    "classification": {},
    "segmentation": {
        "data.name": (is_segmentation_name, SEGMENTATION_NAMES),
        "segmentation.skip": _BOOL,
        "segmentation.output_stride": (lambda v: v in (8, 16, 32), "8 | 16 | 32"),
        "segmentation.aux": _BOOL,
        "segmentation.aux_weight": _number(0),
        "segmentation.dropout": _number(0, 1, open_high=True),
        "segmentation.base_size": _integer(1),
        "segmentation.scale": _range(0, math.inf),
        "segmentation.canvas": _integer(1),
    },
    "detection": {
        "data.name": (is_detection_name, DETECTION_NAMES),
        "detection.neck": _one_of("c4", "fpn"),
        "detection.short_side": _integer(1),
        "detection.max_side": _integer(1),
        "detection.max_objects": _integer(1),
        "detection.anchor_sizes": _RISING_SIZES,
        "detection.rpn_channels": _integer(1),
        "detection.fpn_channels": _integer(1),
        "detection.fc": _integer(1),
        "detection.rpn_nms": _number(0, 1),
        "detection.rpn_min_size": _number(0),
        "detection.train_pre_nms": _integer(1),
        "detection.train_post_nms": _integer(1),
        "detection.test_pre_nms": _integer(1),
        "detection.test_post_nms": _integer(1),
        "detection.rpn_batch": _integer(2),
        "detection.rpn_positive": _number(0, 1),
        "detection.roi_batch": _integer(1),
        "detection.roi_positive": _number(0, 1),
        "detection.roi_size": _integer(1),
        "detection.train_difficult": _BOOL,
        "detection.nms": _number(0, 1),
        "detection.score_threshold": _number(0, 1),
        "detection.max_detections": _integer(1),
        "detection.metric": _one_of("11point", "area", "coco"),
    },
}

ALL_FIELDS = set(FIELDS).union(*TASK_FIELDS.values())


def check_fields(flat: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first field that is unknown, missing or wrong."""
    fields = FIELDS | TASK_FIELDS.get(flat.get("task", ""), {})
    for field in flat.keys() - fields.keys():
        raise unknown("config field", field, fields)
    for field in fields.keys() - flat.keys():
        raise ConfigError(f"config field {field!r} is missing")
    for field, (holds, allowed) in fields.items():
        value = flat[field]
        try:
            ok = holds(value)
        except (TypeError, AttributeError, ValueError):
            ok = False
        if not ok:
            raise ConfigError(f"{field}={value!r} is not allowed; allowed: {allowed}")
