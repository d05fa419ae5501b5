"""A network as an ONNX program, through jax2onnx.

jax2onnx is no extra of rtj: its release 0.17.1 asks for orbax-checkpoint below 0.11.37,
rtj for a newer one, and no installer accepts both. It converts as well with the newer
one, so it can be installed first and orbax-checkpoint raised after it.

jax2onnx 0.17.1 replaces Flax's pooling functions while it traces, by ones that take
no explicit padding, and lowers a pool over NHWC to a four-dimensional MaxPool, which
ONNX Runtime does not run. So the network is traced here first, and each pool is
rewritten over (N * C, H, W), which becomes a plain 3-D pool.
"""

import importlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from rtj.errors import ConfigError
from rtj.serving import Network
from rtj.stablehlo import Input, serving_program

_POOLS = ("reduce_window_max", "reduce_window_sum")


def to_onnx(network: Network, *, input_type: Input = "uint8") -> bytes:
    """Images (N, size, size, 3) to float32 logits (N, classes) as an ONNX file.

    Args:
        input_type: `uint8` takes RGB crops of 0 to 255 and normalises them,
            `float32` takes them normalised.

    Raises:
        ConfigError: jax2onnx is not installed.
    """
    try:
        library = importlib.import_module("jax2onnx")
    except ImportError as error:
        raise ConfigError(
            "ONNX needs the package jax2onnx, which is not installed; it asks for an "
            "older orbax-checkpoint than rtj does, so: pip install jax2onnx, and then "
            "pip install 'orbax-checkpoint>=0.12.8'"
        ) from error
    program, shape = serving_program(network, input_type)
    traced = jax.make_jaxpr(program)(shape)
    converted = library.to_onnx(
        lambda images: _evaluate(traced.jaxpr, traced.consts, [images])[0],
        [shape],
        model_name=network.name,
        input_names=["images"],
        output_names=["logits"],
        return_mode="proto",
    )
    return converted.SerializeToString()


def _evaluate(
    jaxpr: jex.Jaxpr, constants: Sequence[Any], arguments: Sequence[Any]
) -> list[Any]:
    """A traced program's results, called functions inlined and pools rewritten."""
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, constants, strict=True))
    values |= dict(zip(jaxpr.invars, arguments, strict=True))

    def read(variable: Any) -> Any:
        constant = isinstance(variable, jex.Literal)
        return variable.val if constant else values[variable]

    for eqn in jaxpr.eqns:
        inputs = [read(variable) for variable in eqn.invars]
        called = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        if isinstance(called, jex.ClosedJaxpr):
            outputs = _evaluate(called.jaxpr, called.consts, inputs)
        elif eqn.primitive.name in _POOLS:
            outputs = [_pool(eqn, *inputs)]
        else:
            output = eqn.primitive.bind(*inputs, **eqn.params)
            outputs = output if eqn.primitive.multiple_results else [output]
        values |= dict(zip(eqn.outvars, outputs, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _pool(eqn: jex.JaxprEqn, x: jax.Array) -> jax.Array:
    """A pool over the two inner axes of (N, H, W, C)."""
    n, h, w, c = x.shape
    inner = {
        key: (fill, *eqn.params[key][1:3])
        for key, fill in (
            ("window_dimensions", 1),
            ("window_strides", 1),
            ("padding", (0, 0)),
            ("base_dilation", 1),
            ("window_dilation", 1),
        )
    }
    flat = jnp.transpose(x, (0, 3, 1, 2)).reshape(n * c, h, w)
    pooled = eqn.primitive.bind(flat, **(eqn.params | inner))
    maps = pooled.reshape(n, c, *pooled.shape[1:])
    return jnp.transpose(maps, (0, 2, 3, 1))
