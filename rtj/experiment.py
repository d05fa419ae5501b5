"""From a config to everything a run is made of: data, model, optimizer, steps."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import optax
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from rtj import sharding
from rtj.config import check
from rtj.data.decode import Decoding, make_decoding
from rtj.data.examples import Source
from rtj.data.sources import eval_split, open_source
from rtj.errors import ConfigError
from rtj.models import create_model, model_options
from rtj.state import TrainState, init_state
from rtj.steps import StepOptions, eval_step, train_step
from rtj.tricks.cosine import cosine
from rtj.tricks.linear_scaling import linear_scaling
from rtj.tricks.low_precision import POLICIES
from rtj.tricks.mixup import Mixing
from rtj.tricks.nesterov import nesterov
from rtj.tricks.no_bias_decay import weight_decay
from rtj.tricks.step_decay import step_decay
from rtj.tricks.warmup import warmup


@dataclass(frozen=True)
class Experiment:
    """A checked config and what was built from it.

    Attributes:
        train_source, eval_source: see `rtj.data.sources`.
        total_steps: length of the run in updates.
        steps_per_epoch: a float; batches may straddle epochs.
        train_step, eval_step: jitted over `mesh`; the first donates its state.
        decoding: how images are decoded and resized.
    """

    config: ConfigDict
    train_source: Source
    eval_source: Source
    mesh: Mesh
    model: nn.Module
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    total_steps: int
    steps_per_epoch: float
    train_step: jax.stages.Wrapped
    eval_step: jax.stages.Wrapped
    decoding: Decoding

    def init_state(self) -> TrainState:
        """A fresh state from the config's seed, replicated over the mesh."""
        tricks = self.config.tricks
        scales = POLICIES[tricks.precision].scales_loss
        return init_state(
            self.model,
            self.optimizer,
            seed=self.config.seed,
            image_size=self.config.data.image_size,
            loss_scale=tricks.loss_scale_init if scales else None,
            sharding=sharding.replicated(self.mesh),
        )


def build(config: ConfigDict) -> Experiment:
    """Check a config, open its data and build its programs; nothing is written.

    Raises:
        ConfigError: a field is not allowed or does not fit the devices.
        DataError: the data set is not there.
    """
    check(config)
    mesh = sharding.make_mesh(config.mesh.devices)
    sharding.check_batch(config.train.batch_size // config.train.accumulate, mesh)
    decoding = make_decoding(
        config.data.decoder, config.data.interpolation, config.data.antialias
    )
    train_source = _open(config, config.data.train_split)
    held_out = config.data.eval_split or eval_split(
        config.data.name, config.data.data_dir
    )
    eval_source = _open(config, held_out)
    num_classes = config.model.num_classes or train_source.num_classes
    model = make_model(config, num_classes)
    steps_per_epoch = len(train_source) / config.train.batch_size
    total_steps = count_steps(config, steps_per_epoch)
    schedule = make_schedule(config, steps_per_epoch, total_steps)
    optimizer = make_optimizer(config, schedule)
    mixing = make_mixing(config, steps_per_epoch, total_steps)
    options = _step_options(config, num_classes, mixing)
    train, evaluate = _jitted(config, mesh, model, optimizer, schedule, options)
    return Experiment(
        config=config,
        train_source=train_source,
        eval_source=eval_source,
        mesh=mesh,
        model=model,
        schedule=schedule,
        optimizer=optimizer,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        train_step=train,
        eval_step=evaluate,
        decoding=decoding,
    )


def _jitted(
    config: ConfigDict,
    mesh: Mesh,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    options: StepOptions,
) -> tuple[jax.stages.Wrapped, jax.stages.Wrapped]:
    """The two steps: state replicated, batch split, nothing compiled yet."""
    state, batch = sharding.replicated(mesh), sharding.split(mesh)
    train = partial(
        train_step,
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        options=options,
    )
    evaluate = partial(
        eval_step,
        model=model,
        mean=config.data.mean,
        std=config.data.std,
        policy=options.policy,
    )
    return (
        jax.jit(
            train,
            in_shardings=(state, batch),
            out_shardings=(state, state),
            donate_argnums=0,
        ),
        jax.jit(evaluate, in_shardings=(state, batch), out_shardings=state),
    )


def _open(config: ConfigDict, split: str) -> Source:
    return open_source(
        config.data.name,
        split,
        data_dir=config.data.data_dir,
        image_size=config.data.image_size,
        num_classes=config.model.num_classes or 1000,
    )


def make_model(config: ConfigDict, num_classes: int) -> nn.Module:
    """The config's network with its tricks, classes and dtype.

    Zero gamma is left out where there is no residual branch (Inception-V3,
    MobileNet, DenseNet), as in the paper.

    Raises:
        ConfigError: a field of `config.model` is set that the network does not have.
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
    return create_model(
        name,
        num_classes=num_classes,
        initializer=config.tricks.initializer,
        dtype=POLICIES[config.tricks.precision].dtype,
        **options,
    )


def count_steps(config: ConfigDict, steps_per_epoch: float) -> int:
    """`train.steps`, or the whole updates in `train.epochs`; at least 1."""
    return config.train.steps or max(1, int(config.train.epochs * steps_per_epoch))


def peak_lr(config: ConfigDict) -> float:
    """The learning rate after warmup."""
    tricks = config.tricks
    if not tricks.linear_scaling:
        return tricks.base_lr
    return linear_scaling(tricks.base_lr, config.train.batch_size, tricks.base_batch)


def make_schedule(
    config: ConfigDict, steps_per_epoch: float, total_steps: int
) -> optax.Schedule:
    """Warmup followed by step or cosine decay, in updates counted from 0."""
    tricks, peak = config.tricks, peak_lr(config)
    warm = min(round(tricks.warmup_epochs * steps_per_epoch), total_steps)
    if tricks.schedule == "cosine":
        return warmup(peak, warm, cosine(peak, total_steps - warm))
    boundaries = [round(epoch * steps_per_epoch) - warm for epoch in tricks.step_epochs]
    return warmup(peak, warm, step_decay(peak, boundaries, tricks.step_factor))


def make_optimizer(
    config: ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Coupled weight decay, then Nesterov momentum with the schedule."""
    tricks = config.tricks
    return optax.chain(
        weight_decay(tricks.weight_decay, no_bias_decay=tricks.no_bias_decay),
        nesterov(schedule, tricks.momentum, tricks.nesterov),
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


def _step_options(
    config: ConfigDict, num_classes: int, mixing: Mixing | None
) -> StepOptions:
    tricks, data = config.tricks, config.data
    return StepOptions(
        num_classes=num_classes,
        seed=config.seed,
        policy=POLICIES[tricks.precision],
        accumulate=config.train.accumulate,
        group_size=config.model.bn_group_size,
        eps=tricks.label_smoothing,
        form=tricks.label_smoothing_form,
        growth_steps=tricks.loss_scale_growth_steps,
        scale_cap=tricks.loss_scale_cap,
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
    )
