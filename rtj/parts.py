"""The parts of a run that a config decides: model, schedule, optimizer, mixing."""

import copy
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from ml_collections import ConfigDict

from rtj.classification import Classification
from rtj.config import set_field
from rtj.errors import ConfigError
from rtj.fine_tuning import FineTuning, scale_by_stage
from rtj.models import create_model, model_options
from rtj.models.stages import count_stages
from rtj.step_options import StepOptions
from rtj.tricks.cosine import cosine
from rtj.tricks.distillation import Distillation
from rtj.tricks.linear_scaling import linear_scaling
from rtj.tricks.low_precision import POLICIES
from rtj.tricks.mixup import Mixing
from rtj.tricks.nesterov import nesterov
from rtj.tricks.no_bias_decay import weight_decay
from rtj.tricks.poly import poly
from rtj.tricks.step_decay import step_decay
from rtj.tricks.warmup import warmup

_MAX_STEPS = 2**31 - 1


def make_model(config: ConfigDict, num_classes: int) -> nn.Module:
    """The config's network with its tricks, classes and dtype.

    Zero gamma is left out where there is no residual branch (Inception-V3,
    MobileNet, DenseNet), as in the paper.

    Raises:
        ConfigError: a field of `config.model` is set that the network does not have.
    """
    return create_model(
        config.model.name, num_classes=num_classes, **network_options(config)
    )


def choose_gram_norm(config: ConfigDict, devices: int) -> ConfigDict:
    """The config with `model.gram_norm` decided, if that was left open.

    It is on in 16 bits where each device has one group of its own. Of a group on
    several devices Gram matrices and their products with gradients would be exchanged,
    not vectors: 81 MB a step in place of 56 for ResNet-50-D on 256 chips. With several
    groups on a device each product has a batch of kernels: 256 images in two groups
    move 70 GB on a v5e, and 65.5 the usual way.
    """
    model = config.model
    if model.gram_norm is not None or "gram_norm" not in model_options(model.name):
        return config
    micro = config.train.batch_size // config.train.accumulate
    alone = micro // devices == (model.bn_group_size or micro)
    dtype = jnp.dtype(POLICIES[config.tricks.precision].dtype)
    decided = copy.deepcopy(config)
    set_field(decided, "model.gram_norm", alone and dtype.itemsize == 2)
    return decided


def network_options(config: ConfigDict) -> dict[str, Any]:
    """The options of `create_model` that the config sets, but for the classes.

    Raises:
        ConfigError: see `make_model`.
    """
    name = config.model.name
    allowed = model_options(name)
    options: dict[str, Any] = {
        key: value
        for key, value in config.model.items()
        if key not in ("name", "num_classes") and value is not None
    }
    for key, value in options.items():
        if key not in allowed:
            raise ConfigError(
                f"model.{key}={value!r} is not an option of {name}; allowed: None"
            )
    if "zero_gamma" in allowed:
        options["zero_gamma"] = config.tricks.zero_gamma
    return options | {
        "initializer": config.tricks.initializer,
        "dtype": POLICIES[config.tricks.precision].dtype,
    }


def count_steps(config: ConfigDict, steps_per_epoch: float) -> int:
    """`train.steps`, or the whole updates in `train.epochs`; at least 1.

    Raises:
        ConfigError: more than 2^31 - 1, as steps are counted in int32.
    """
    steps = config.train.steps or max(1, int(config.train.epochs * steps_per_epoch))
    if steps > _MAX_STEPS:
        raise ConfigError(
            f"train.epochs={config.train.epochs:g} are {steps:,} steps; allowed: "
            f"{_MAX_STEPS:,}"
        )
    return steps


def peak_lr(config: ConfigDict) -> float:
    """The learning rate after warmup."""
    tricks = config.tricks
    if not tricks.linear_scaling:
        return tricks.base_lr
    return linear_scaling(tricks.base_lr, config.train.batch_size, tricks.base_batch)


def make_schedule(
    config: ConfigDict, steps_per_epoch: float, total_steps: int
) -> optax.Schedule:
    """Warmup, then step, cosine or polynomial decay, in updates counted from 0."""
    tricks, peak = config.tricks, peak_lr(config)
    warm = min(round(tricks.warmup_epochs * steps_per_epoch), total_steps)
    if tricks.schedule == "cosine":
        return warmup(peak, warm, cosine(peak, total_steps - warm))
    if tricks.schedule == "poly":
        after = poly(peak, total_steps - warm, tricks.poly_power)
        return warmup(peak, warm, after)
    boundaries = [round(epoch * steps_per_epoch) - warm for epoch in tricks.step_epochs]
    return warmup(peak, warm, step_decay(peak, boundaries, tricks.step_factor))


def make_optimizer(
    config: ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Coupled weight decay, Nesterov momentum with the schedule, rates by stage."""
    tricks = config.tricks
    steps = [
        weight_decay(tricks.weight_decay, no_bias_decay=tricks.no_bias_decay),
        nesterov(schedule, tricks.momentum, tricks.nesterov),
    ]
    tuning = make_fine_tuning(config)
    if tuning.scales:
        steps.append(scale_by_stage(tuning))
    return optax.chain(*steps)


def make_fine_tuning(config: ConfigDict) -> FineTuning:
    """What of the network is trained and how fast."""
    train = config.train
    return FineTuning(
        frozen=train.frozen_stages,
        freeze_batch_norm=train.freeze_batch_norm,
        stage_decay=train.stage_lr_decay,
        head_factor=train.head_lr,
    )


def make_mixing(
    config: ConfigDict, steps_per_epoch: float, total_steps: int
) -> Mixing | None:
    """Mixup and CutMix until `tricks.mixup_off_epochs` before the end, or None."""
    tricks = config.tricks
    if not tricks.mixup and not tricks.cutmix:
        return None
    return Mixing(
        mixup=tricks.mixup,
        cutmix=tricks.cutmix,
        per=tricks.mixup_lambda,
        group_size=config.model.bn_group_size,
        stop_step=total_steps - round(tricks.mixup_off_epochs * steps_per_epoch),
    )


def check_frozen(config: ConfigDict, model: nn.Module) -> None:
    """Raise ConfigError if more stages are to be frozen than the network has."""
    frozen = config.train.frozen_stages
    if frozen == 0:
        return
    images = jax.ShapeDtypeStruct((1, *[config.data.image_size] * 2, 3), jnp.float32)
    init = partial(model.init, train=False)
    allowed = 1 + count_stages(
        jax.eval_shape(init, jax.random.key(0), images)["params"]
    )
    if frozen > allowed:
        raise ConfigError(
            f"train.frozen_stages={frozen}, but {config.model.name} has {allowed} "
            f"before its classifier, the stem among them; allowed: 0 to {allowed}"
        )


def make_step_options(config: ConfigDict) -> StepOptions:
    """Everything static that a step needs beside its loss and its optimizer."""
    tricks = config.tricks
    return StepOptions(
        seed=config.seed,
        policy=POLICIES[tricks.precision],
        accumulate=config.train.accumulate,
        group_size=config.model.bn_group_size,
        growth_steps=tricks.loss_scale_growth_steps,
        scale_cap=tricks.loss_scale_cap,
        ema=tricks.ema,
        ema_batch_stats=tricks.ema_batch_stats,
    )


def make_classification(
    config: ConfigDict,
    model: nn.Module,
    mixing: Mixing | None = None,
    distillation: Distillation | None = None,
) -> Classification:
    """How `model` learns."""
    tricks, data = config.tricks, config.data
    return Classification(
        model=model,
        num_classes=cast(Any, model).num_classes,
        seed=config.seed,
        eps=tricks.label_smoothing,
        form=tricks.label_smoothing_form,
        augment={
            "flip": data.flip,
            "rand_augment_ops": data.rand_augment_ops,
            "rand_augment_magnitude": data.rand_augment_magnitude,
            "color_jitter": data.color_jitter,
            "jitter_strength": data.jitter_strength,
            "pca_std": data.pca_noise,
            "mean": data.mean,
            "std": data.std,
            "erasing": data.random_erasing,
            "erasing_fill": data.random_erasing_fill,
        },
        mixing=mixing,
        distillation=distillation,
        tuning=make_fine_tuning(config),
    )
