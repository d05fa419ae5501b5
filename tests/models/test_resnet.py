"""Shortcuts, dilation, odd sizes, zero gamma and options of the networks."""

import math
import zlib
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from rtj.errors import ConfigError
from rtj.models import count_parameters, create_model
from tests.models import parity

SMALL: dict[str, Any] = {"stage_sizes": (2, 1, 2, 2), "width": 16, "num_classes": 5}


def _init(model, size=64):
    """Variables whose scales, biases and statistics are not all 0 or 1."""
    image = jnp.zeros((1, size, size, 3))

    def perturb(path, leaf):
        if path[-1].key == "kernel":
            return leaf
        key = jax.random.key(zlib.crc32(jax.tree_util.keystr(path).encode()))
        return leaf + 0.2 * jax.random.uniform(key, leaf.shape)

    variables = _run(model.init, jax.random.key(0), image)
    return jax.tree_util.tree_map_with_path(perturb, variables)


def _run(function, *args):
    """A result of a program that runs once, quickly compiled."""
    return jax.jit(function, compiler_options=parity.QUICK)(*args)


def _images(size):
    return jax.random.normal(jax.random.key(7), (2, size, size, 3))


def _shapes(model, size):
    """The output of every top module by name, shapes alone."""
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(lambda x: _outputs(model.init, jax.random.key(0), x), image)


def _outputs(call, *args):
    """What every top module returns during `call`, by name."""
    seen = {}

    def record(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if len(context.module.path) == 1:
            seen[context.module.path[0]] = out
        return out

    with nn.intercept_methods(record):
        call(*args)
    return seen


@pytest.mark.parametrize("size", [225, 240, 97, 75, 33])
@pytest.mark.parametrize(
    "name", ["resnet18d", "resnet50", "resnet50d", "seresnet50d", "resnext50d_32x4d"]
)
def test_maps_have_the_size_that_strided_convolutions_give(name, size):
    outputs = _shapes(create_model(name), size)
    for stage in range(4):
        side = math.ceil(size / 2 ** (stage + 2))
        assert outputs[f"layer{stage + 1}_0"].shape[1:3] == (side, side)


@pytest.mark.parametrize("size", [225, 240, 97, 75, 33])
def test_mobilenet_halves_its_maps_rounding_up(size):
    outputs = _shapes(create_model("mobilenet"), size)
    side = math.ceil(size / 32)
    assert outputs["layer5_1"].shape[1:] == (side, side, 1024)


@pytest.mark.parametrize("size", [225, 240, 97, 75, 33])
def test_densenet_drops_the_odd_row_in_its_transitions(size):
    outputs = _shapes(create_model("densenet121"), size)
    side = math.ceil(size / 4)
    for block in (1, 2, 3):
        side //= 2
        assert outputs[f"transition{block}"].shape[1:3] == (side, side)


def test_inception_says_how_small_images_may_be():
    model = create_model("inception_v3")
    with pytest.raises(ConfigError, match=r"images are 74x74 .* 75 and more"):
        _shapes(model, 74)
    assert _shapes(model, 75)["Mixed_7c"].shape == (2, 1, 1, 2048)


def test_pooled_shortcut_does_not_pool_at_stride_1():
    options = SMALL | {"stage_sizes": (2,)}
    c, d = (create_model(name, **options) for name in ("resnet50c", "resnet50d"))
    variables = _init(c)
    np.testing.assert_array_equal(
        _run(c.apply, variables, _images(33)), _run(d.apply, variables, _images(33))
    )


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("name", ["resnet50", "resnet50c", "resnet18c"])
def test_dilated_network_is_the_undilated_one_sampled_more_densely(name, output_stride):
    plain = create_model(name, **SMALL)
    dilated = create_model(name, output_stride=output_stride, **SMALL)
    variables = _init(plain)
    last = "layer4_1"
    coarse, fine = (
        _run(partial(_outputs, model.apply), variables, _images(97))[last]
        for model in (plain, dilated)
    )
    step = 32 // output_stride
    assert fine.shape[1:3] == (math.ceil(97 / output_stride),) * 2
    np.testing.assert_allclose(
        fine[:, ::step, ::step], coarse, rtol=1e-4, atol=1e-4 * float(coarse.max())
    )


@pytest.mark.parametrize("dilated_pool", ["identity", "same"])
@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("size", [75, 64])
def test_dilated_d_keeps_parameters_and_reaches_its_stride(
    dilated_pool, output_stride, size
):
    options = {"output_stride": output_stride, "dilated_pool": dilated_pool}
    model = create_model("resnet50d", **options)
    outputs = _shapes(model, size)
    assert outputs["layer4_2"].shape[1:3] == (math.ceil(size / output_stride),) * 2
    assert count_parameters(model) == count_parameters(create_model("resnet50d"))


def test_output_stride_allows_8_16_32():
    with pytest.raises(ConfigError, match="output_stride=4; allowed: 8, 16, 32"):
        _shapes(create_model("resnet50d", output_stride=4), 64)


def test_resnext_says_when_it_is_too_narrow():
    with pytest.raises(ConfigError, match=r"8 features, .* 32 groups; .* of 16"):
        _shapes(create_model("resnext50_32x4d", width=8), 64)


@pytest.mark.parametrize(
    ("name", "last"),
    [("resnet18d", "bn2"), ("resnet50", "bn3"), ("seresnext50_32x4d", "bn3")],
)
def test_zero_gamma_zeroes_the_last_scale_of_each_branch_and_no_other(name, last):
    options = SMALL | {"stage_sizes": (2, 1, 1, 1)}
    model = create_model(name, zero_gamma=True, **options)
    image = jnp.zeros((1, 64, 64, 3))
    params = _run(model.init, jax.random.key(0), image)["params"]
    scales = {k: v for k, v in flatten_dict(params).items() if k[-1] == "scale"}
    zero = {path for path, scale in scales.items() if not scale.any()}
    assert zero == {
        (block, last, "scale")
        for block in ("layer1_0", "layer1_1", "layer2_0", "layer3_0", "layer4_0")
    }
    rest = [scale for path, scale in scales.items() if path not in zero]
    assert all((scale == 1).all() for scale in rest)


@pytest.mark.parametrize("name", ["resnet18d", "resnet50d", "seresnet50"])
def test_zero_gamma_makes_a_block_the_relu_of_its_shortcut(name):
    model = create_model(name, zero_gamma=True, **SMALL)
    variables = _run(model.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))
    seen = _run(partial(_outputs, model.apply), variables, _images(64))
    # layer1_1 has no projection, and its input went through a ReLU.
    np.testing.assert_array_equal(seen["layer1_1"], seen["layer1_0"])


def test_small_images_keep_their_size_through_the_stem():
    for name in ("resnet50d", "densenet121", "mobilenet"):
        outputs = _shapes(create_model(name, small_images=True), 28)
        assert outputs["stem"].shape[1:3] == (28, 28)


def test_auxiliary_logits_come_in_training_alone():
    model = create_model("inception_v3", aux_head=True, num_classes=5, dropout=0.0)
    image = jax.ShapeDtypeStruct((2, 299, 299, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    assert set(variables) == {"params", "batch_stats"}

    def stored(train):
        apply = partial(model.apply, train=train, mutable=["aux", "batch_stats"])
        return jax.eval_shape(apply, variables, image)[1].get("aux")

    assert stored(train=True)["logits"].shape == (2, 5)
    assert stored(train=False) is None


def test_auxiliary_head_says_how_small_its_map_may_be():
    model = create_model("inception_v3", aux_head=True)
    with pytest.raises(ConfigError, match="aux_head reads a map of 17x17"):
        _shapes(model, 224)
