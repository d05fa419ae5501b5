"""Parameter and multiply-add counts, read off the traced program."""

import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def count_parameters(model: nn.Module, image_size: int = 224) -> int:
    """Trainable parameters (running statistics are not counted)."""
    params = _shapes(model, image_size)["params"]
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def count_macs(model: nn.Module, image_size: int = 224) -> int:
    """Multiply-adds of convolutions and dense layers for one square image.

    This is what the paper's tables call FLOPs.
    """
    image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    jaxpr = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(
        _shapes(model, image_size), image
    )
    return sum(_macs(eqn) for eqn in _equations(jaxpr.jaxpr))


def _shapes(model: nn.Module, image_size: int) -> Any:
    image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    return jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )


def _equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    for eqn in jaxpr.eqns:
        yield eqn
        for value in eqn.params.values():
            if isinstance(value, ClosedJaxpr):
                yield from _equations(value.jaxpr)
            elif isinstance(value, Jaxpr):
                yield from _equations(value)


def _macs(eqn: JaxprEqn) -> int:
    if eqn.primitive.name == "conv_general_dilated":
        kernel = _shape(eqn.invars[1])
        out_channels = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        return math.prod(_shape(eqn.outvars[0])) * math.prod(kernel) // out_channels
    if eqn.primitive.name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        depth = math.prod(_shape(eqn.invars[0])[axis] for axis in contracted)
        return math.prod(_shape(eqn.outvars[0])) * depth
    return 0


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape
