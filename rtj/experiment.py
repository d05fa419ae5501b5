"""From a config to everything a run is made of: data, model, optimizer, steps."""

from collections.abc import Callable
from dataclasses import dataclass, replace
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
from rtj.initial_weights import InitialWeights, start_from
from rtj.parts import (
    check_frozen,
    choose_gram_norm,
    count_steps,
    make_optimizer,
    make_schedule,
    make_step_options,
)
from rtj.state import (
    TrainState,
    fresh_state,
    run_once_on_devices,
    sharded_optimizer,
)
from rtj.steps import train_step
from rtj.task import Data, Length, Task, task_of
from rtj.teacher import Teacher, open_teacher
from rtj.teacher_cache import with_cached_logits
from rtj.tricks.low_precision import POLICIES


@dataclass(frozen=True)
class Program:
    """What a config computes on a mesh, for data of known size.

    Attributes:
        total_steps: length of the run in updates.
        steps_per_epoch: a float; batches may straddle epochs.
        train_step, eval_step: jitted over `mesh`; the first donates its state.
        state_sharding: of the train state, one for all of it or one for each part.
        teacher: None without distillation.
    """

    config: ConfigDict
    mesh: Mesh
    model: nn.Module
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    total_steps: int
    steps_per_epoch: float
    train_step: jax.stages.Wrapped
    eval_step: jax.stages.Wrapped
    state_sharding: Any
    teacher: Teacher | None

    @property
    def task(self) -> Task:
        """What is learnt."""
        return task_of(self.config)

    @property
    def constants(self) -> tuple[Any, ...]:
        """What `train_step` takes third: the arrays of the teacher, if there is one."""
        return () if self.teacher is None else (self.teacher.variables,)

    def init_state(self, **options: Any) -> TrainState:
        """A fresh state from the config's seed, placed as `state_sharding` says.

        `options` as of `run_once_on_devices`.
        """
        return run_once_on_devices(
            self._fresh_state, self.config.seed, self.state_sharding, **options
        )

    def abstract_state(self) -> TrainState:
        """The shapes, dtypes and shardings of a state; nothing is computed."""
        state = jax.eval_shape(lambda: self._fresh_state(jax.random.key(0)))
        return jax.tree.map(
            lambda leaf, sharding: leaf.update(sharding=sharding),
            state,
            jax.tree.broadcast(self.state_sharding, state),
        )

    def _fresh_state(self, key: jax.Array) -> TrainState:
        tricks = self.config.tricks
        scales = POLICIES[tricks.precision].scales_loss
        return fresh_state(
            key,
            self.model,
            self.optimizer,
            image_size=self.config.data.image_size,
            loss_scale=tricks.loss_scale_init if scales else None,
            average=tricks.ema > 0,
        )


@dataclass(frozen=True)
class Experiment(Program):
    """A program with its data.

    Attributes:
        train_source, eval_source: what the task opens.
        decoding: how images are decoded and resized.
        initial: the weights that a new run starts from; None: random ones.
    """

    train_source: Data
    eval_source: Data
    decoding: Decoding
    initial: InitialWeights | None = None

    def first_state(self, **options: Any) -> TrainState:
        """The state of a run that has not begun; `options` as of `init_state`."""
        state = self.init_state(**options)
        return state if self.initial is None else start_from(state, self.initial)


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
    train_source, eval_source = task_of(config).open_data(config)
    num_classes = config.model.num_classes or train_source.num_classes
    program = build_program(
        config,
        mesh,
        num_classes=num_classes,
        examples=len(train_source),
        teacher=_teacher(config, num_classes, mesh, train_source, decoding),
    )
    return Experiment(
        train_source=train_source,
        eval_source=eval_source,
        decoding=decoding,
        **vars(program),
    )


def build_program(
    config: ConfigDict,
    mesh: Mesh,
    *,
    num_classes: int,
    examples: int,
    teacher: Teacher | None = None,
) -> Program:
    """The steps of a checked config; no data is opened and no device used.

    Args:
        mesh: its devices may be those of a machine that is not there.
        num_classes: size of the classifier.
        examples: length of the training set.
        teacher: of the config, with arrays or with their shapes.
    """
    task = task_of(config)
    model = task.model(choose_gram_norm(config, mesh.size), num_classes)
    check_frozen(config, model)
    steps_per_epoch = examples / config.train.batch_size
    total_steps = count_steps(config, steps_per_epoch)
    length = Length(total_steps, steps_per_epoch)
    schedule = make_schedule(config, steps_per_epoch, total_steps)
    optimizer = make_optimizer(config, schedule)
    state_sharding: Any = sharding.replicated(mesh)
    if config.mesh.shard_optimizer:
        size = config.data.image_size
        state_sharding = sharded_optimizer(model, optimizer, size, mesh)
    train = partial(
        train_step,
        loss=task.loss(config, model, mesh, length, teacher),
        optimizer=optimizer,
        schedule=schedule,
        options=make_step_options(config),
    )
    evaluate = task.eval_step(config, model, mesh)
    constants = 0 if teacher is None else 1
    return Program(
        config=config,
        mesh=mesh,
        model=model,
        schedule=schedule,
        optimizer=optimizer,
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        train_step=_jit_train(train, mesh, state_sharding, constants),
        eval_step=_jit_evaluate(evaluate, mesh),
        state_sharding=state_sharding,
        teacher=teacher,
    )


def _jit_train(
    step: Callable[..., Any], mesh: Mesh, state: Any, constants: int
) -> jax.stages.Wrapped:
    """State as placed and given away, batch split, the rest whole on every device."""
    whole, batch = sharding.replicated(mesh), sharding.split(mesh)
    return jax.jit(
        step,
        in_shardings=(state, batch, *[whole] * constants),
        out_shardings=(state, whole),
        donate_argnums=0,
    )


def _jit_evaluate(step: Callable[..., Any], mesh: Mesh) -> jax.stages.Wrapped:
    whole, batch = sharding.replicated(mesh), sharding.split(mesh)
    return jax.jit(step, in_shardings=(whole, batch), out_shardings=whole)


def _teacher(
    config: ConfigDict,
    num_classes: int,
    mesh: Mesh,
    source: Data,
    decoding: Decoding,
) -> Teacher | None:
    """The config's teacher, its arrays on the devices."""
    teacher = open_teacher(config, num_classes)
    if teacher is None:
        return None
    if config.tricks.teacher_cache:
        teacher = with_cached_logits(teacher, config, mesh, source, decoding)
    return replace(teacher, variables=sharding.replicate(teacher.variables, mesh))
