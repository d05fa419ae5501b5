"""A network as a serialised StableHLO program with its weights inside."""

import importlib.util
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from rtj.preprocess import normalize
from rtj.serving import Network
from rtj.weights.weight_file import missing_extra

Input = Literal["uint8", "float32"]
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def to_stablehlo(network: Network, *, input_type: Input = "uint8") -> bytes:
    """Images to logits as one program; it needs jax, and no code of rtj:

        from jax import export
        program = export.deserialize(bytearray(open("FILE", "rb").read()))
        logits = program.call(images)

    Args:
        input_type: `uint8` takes RGB crops (N, size, size, 3) of 0 to 255 and
            normalises them; `float32` takes them normalised.

    Returns:
        The bytes of a file. N is free; the program runs on CPU, GPU and TPU.
        Logits are float32 (N, classes).

    Raises:
        ConfigError: flatbuffers is not installed.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise missing_extra("flatbuffers")
    program, shape = serving_program(network, input_type)
    return bytes(
        export.export(jax.jit(program), platforms=PLATFORMS)(shape).serialize()
    )


def serving_program(
    network: Network, input_type: Input
) -> tuple[Callable[[jax.Array], Any], jax.ShapeDtypeStruct]:
    """The function from images to logits, weights inside, and its input's shape.

    The shape is (N, S, S, 3) with N free.
    """
    variables = jax.tree.map(np.asarray, network.variables)

    def program(images: jax.Array) -> Any:
        if input_type == "uint8":
            images = normalize(images, network.preprocess)
        return network.model.apply(variables, images, train=False)

    size = network.preprocess.size
    (batch,) = export.symbolic_shape("N")
    shape = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.dtype(input_type))
    return program, shape
