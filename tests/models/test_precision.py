"""Low precision: the error that rounding predicts, statistics in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from rtj.models import create_model
from rtj.models.batch_norm import BatchNorm
from rtj.models.densenet import DenseLayer
from rtj.models.resnet_blocks import BasicBlock, Bottleneck
from rtj.weights.names import from_torch, to_torch
from tests.models import parity

FAMILIES = [
    "resnet18d",
    "resnet50",
    "seresnext50_32x4d",
    "densenet121",
    "mobilenet_025",
    "inception_v3",
]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_parameters_statistics_and_logits_are_float32_in_every_precision(name, dtype):
    model = create_model(name, dtype=jnp.dtype(dtype))
    size = model.native_size
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.dtype(dtype))
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    logits, new = jax.eval_shape(
        lambda v, x: model.apply(
            v,
            x,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(1)},
        ),
        variables,
        image,
    )
    leaves = jax.tree.leaves((variables, new, logits))
    assert {str(leaf.dtype) for leaf in leaves} == {"float32"}


@pytest.mark.parametrize("name", ["resnet26d", "mobilenet"])
def test_bf16_logits_are_as_far_off_as_rounding_predicts(name):
    """The prediction is the float64 network with the kernels and outputs of all
    convolutions, and the outputs of all batch norms and blocks, rounded to bfloat16.
    Rounding errors are random, so their root mean square over the 2000 logits is
    compared, within a factor of 1.5. The lower bound shows that bf16 is in use."""
    with jax.enable_x64(True):
        variables = _variables(name)
        exact = _evaluate(name, jnp.float64, variables)
        with nn.intercept_methods(_rounded):
            rounded = _round_kernels(variables)
            predicted = _rms(_evaluate(name, jnp.float64, rounded) - exact)
    single = jax.tree.map(lambda leaf: leaf.astype(np.float32), variables)
    found = _rms(_evaluate(name, jnp.bfloat16, single) - exact)
    assert predicted / 1.5 < found < predicted * 1.5


def _rounded(call, args, kwargs, context):
    module = context.module
    out = call(*args, **kwargs)
    if isinstance(module, nn.Conv | BatchNorm | BasicBlock | Bottleneck | DenseLayer):
        return _round(out)
    return out


def _round_kernels(variables):
    """Convolutions alone: the classifier runs in float32."""
    return jax.tree.map(lambda x: _round(x) if x.ndim == 4 else x, variables)


def _round(x):
    return x.astype(jnp.bfloat16).astype(x.dtype)


def _variables(name):
    """Float64 arrays by the rule of the reference files."""
    model = create_model(name)
    zeros = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape),
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3))),
    )
    shapes = {key: value.shape for key, value in to_torch(name, zeros).items()}
    return from_torch(name, parity.state_dict(shapes), zeros)


def _evaluate(name, dtype, variables):
    """Logits as float64; bfloat16 holds the images exactly."""
    model = create_model(name, dtype=dtype)
    run = jax.jit(
        lambda v, x: model.apply(v, x, train=False), compiler_options=parity.QUICK
    )
    images = parity.images(64).astype(jnp.bfloat16).astype(np.float64)
    return np.asarray(run(variables, images), np.float64)


def _rms(x):
    return float(np.sqrt(np.mean(np.square(x))))
