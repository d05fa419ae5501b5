"""Parameter and multiply-add counts, from a trace that computes nothing."""

import math
import re
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from rtj.models.registry import create_model


@dataclass(frozen=True)
class Stage:
    """One row of a summary: layers of one name up to its block number.

    Attributes:
        name: `stem`, `layer1`, ..., `fc`.
        blocks: how many modules the row sums up.
        output: (height, width, channels) after the stage; (classes,) after `fc`.
        parameters: trainable ones.
        macs: multiply-adds for one image in evaluation, so an auxiliary head has 0.
    """

    name: str
    blocks: int
    output: tuple[int, ...]
    parameters: int
    macs: int


@dataclass(frozen=True)
class ModelSummary:
    """What `model_summary` found; `str` gives the table.

    Attributes:
        name: of the registry.
        image_size: pixels a side that `macs` and the outputs refer to.
        parameters: trainable ones (running statistics are not counted).
        macs: multiply-adds of convolutions and dense layers for one image.
        stages: in the order of execution.
    """

    name: str
    image_size: int
    parameters: int
    macs: int
    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        head = ("stage", "blocks", "output", "parameters", "MACs")
        rows = [
            (
                stage.name,
                str(stage.blocks),
                "x".join(map(str, stage.output)),
                f"{stage.parameters:,}",
                f"{stage.macs:,}",
            )
            for stage in self.stages
        ]
        total = ("total", "", "", f"{self.parameters:,}", f"{self.macs:,}")
        table = [head, *rows, total]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        title = f"{self.name}, {self.image_size}x{self.image_size} pixels"
        return "\n".join([title, *(_line(row, widths) for row in table)])


def model_summary(name: str, image_size: int = 0, **options: Any) -> ModelSummary:
    """Parameters, multiply-adds and output shapes of a network and its stages.

    Args:
        name: of the registry.
        image_size: pixels a side; 0 is the network's own size.
        options: see `create_model`.

    Raises:
        ConfigError: unknown name or option.
    """
    model = create_model(name, **options)
    size = image_size or native_size(model)
    params = _shapes(model, size)["params"]
    outputs = _outputs(model, size)
    macs = _macs_by_module(model, size)
    groups: dict[str, list[str]] = {}
    for module in filter(params.__contains__, outputs):
        groups.setdefault(re.sub(r"_\d+$", "", module), []).append(module)
    stages = [
        Stage(
            name=stage,
            blocks=len(modules),
            output=outputs[modules[-1]][1:],
            parameters=sum(_size(params[module]) for module in modules),
            macs=sum(macs.get(module, 0) for module in modules),
        )
        for stage, modules in groups.items()
    ]
    return ModelSummary(name, size, _size(params), sum(macs.values()), tuple(stages))


def count_parameters(model: nn.Module, image_size: int = 0) -> int:
    """Trainable parameters (running statistics are not counted).

    `image_size` 0 is the network's own.
    """
    return _size(_shapes(model, image_size or native_size(model))["params"])


def count_macs(model: nn.Module, image_size: int = 0) -> int:
    """Multiply-adds of convolutions and dense layers for one square image.

    This is what the paper's tables call FLOPs. `image_size` 0 is the network's own.
    """
    return sum(_macs_by_module(model, image_size or native_size(model)).values())


def native_size(model: nn.Module) -> int:
    """Pixels a side of the images that a network of the registry is made for."""
    return model.native_size


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [row[0].ljust(widths[0])]
    cells += [
        cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)
    ]
    return "  ".join(cells).rstrip()


def _size(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _image(size: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)


def _shapes(model: nn.Module, size: int) -> Any:
    return jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), _image(size)
    )


def _outputs(model: nn.Module, size: int) -> dict[str, tuple[int, ...]]:
    """Output shape of every top module, in the order of calls."""
    shapes: dict[str, tuple[int, ...]] = {}

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        out = call(*args, **kwargs)
        if len(context.module.path) == 1:
            shapes[context.module.path[0]] = out.shape
        return out

    with nn.intercept_methods(record):
        _shapes(model, size)
    return shapes


def _macs_by_module(model: nn.Module, size: int) -> dict[str, int]:
    """Multiply-adds of every top module in evaluation."""
    macs: dict[str, int] = {}
    variables = _shapes(model, size)

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        out, module = call(*args, **kwargs), context.module
        if isinstance(module, nn.Conv | nn.Dense):
            *window, _ = module.get_variable("params", "kernel").shape
            count = math.prod(out.shape) * math.prod(window)
            macs[module.path[0]] = macs.get(module.path[0], 0) + count
        return out

    with nn.intercept_methods(record):
        jax.eval_shape(
            lambda v, x: model.apply(v, x, train=False), variables, _image(size)
        )
    return macs
