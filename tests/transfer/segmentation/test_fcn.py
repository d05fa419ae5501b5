"""FCN against torchvision's numbers; dilation; its names and options."""

import json
import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from rtj.errors import CheckpointError, ConfigError
from rtj.models import create_model
from rtj.models.resnet_blocks import Shortcut
from rtj.transfer.segmentation.fcn import create_fcn, upsample
from rtj.transfer.segmentation.names import from_torch, to_torch, torch_names
from tests.models import parity

SMALL: dict[str, Any] = {"stage_sizes": (2, 1, 2, 2), "width": 8}


@pytest.fixture(scope="module")
def torchvision():
    """`out` and `aux` (1, 21, 25, 25): every 4th of 97 x 97 pixels, NCHW."""
    with np.load(parity.FOLDER / "torchvision.fcn_resnet50.97.npz") as file:
        shapes = json.loads(str(file["shapes"]))
        return SimpleNamespace(
            size=int(file["size"]),
            state_dict=parity.state_dict({k: tuple(v) for k, v in shapes.items()}),
            out=file["out"],
            aux=file["aux"],
        )


def shapes(model, size=32, dtype=jnp.float32):
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), variables)


def quick(function, *args):
    """A result of a program that runs once, quickly compiled."""
    return jax.jit(function, compiler_options=parity.QUICK)(*args)


def random_variables(model, size=32):
    """Variables whose scales, biases and statistics are not all 0 or 1."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        if path[-1].key == "kernel":
            fan = math.prod(leaf.shape[:-1])
            return rng.normal(0, math.sqrt(2 / fan), leaf.shape).astype(np.float32)
        return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes(model, size))


@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-9), ("float32", 1e-4)])
def test_fcn_computes_what_torchvision_computes(torchvision, dtype, bound):
    model = create_fcn("resnet50b", 21, dtype=jnp.dtype(dtype))
    images = parity.images(torchvision.size)[:1].astype(dtype)
    with jax.enable_x64(dtype == "float64"):
        like = shapes(model, dtype=dtype)
        variables = from_torch("resnet50b", torchvision.state_dict, like)
        logits = jax.device_get(quick(model.apply, variables, images))
    for found, wanted in ((logits.out, torchvision.out), (logits.aux, torchvision.aux)):
        assert found.shape == (1, 97, 97, 21) and found.dtype == dtype
        sampled = found[:, ::4, ::4].transpose(0, 3, 1, 2)
        assert np.abs(sampled - wanted).max() <= bound * np.abs(wanted).max()


def test_names_are_torchvisions_and_tensors_come_back_unchanged(torchvision):
    like = shapes(create_fcn("resnet50b", 21))
    names = {entry.key for entry in torch_names("resnet50b", like)}
    assert names == torchvision.state_dict.keys()
    variables = from_torch("resnet50b", torchvision.state_dict, like)
    assert jax.tree.map(lambda x: x.shape, variables) == jax.tree.map(
        lambda x: x.shape, like
    )
    for key, value in to_torch("resnet50b", variables).items():
        np.testing.assert_array_equal(
            value, torchvision.state_dict[key].astype(np.float32)
        )


def test_tensors_that_do_not_fit_are_all_named(torchvision):
    tensors = dict(torchvision.state_dict)
    del tensors["backbone.conv1.weight"]
    tensors["head.bias"] = np.zeros(3)
    like = shapes(create_fcn("resnet50b", 20))
    with pytest.raises(CheckpointError) as error:
        from_torch("resnet50b", tensors, like)
    for part in (
        "do not fit an FCN on resnet50b",
        "1 missing: backbone.conv1.weight",
        "1 extra: head.bias",
        "4 mis-shaped: ",
        "classifier.4.weight (21, 512, 1, 1), not (20, 512, 1, 1)",
    ):
        assert part in str(error.value)


def test_without_the_auxiliary_head_torchvisions_is_left_out(torchvision):
    model = create_fcn("resnet50b", 21, aux=False)
    like = shapes(model)
    variables = from_torch("resnet50b", torchvision.state_dict, like)
    assert set(variables["params"]) == {"backbone", "classifier"}
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    assert jax.eval_shape(model.apply, variables, image).aux is None


@pytest.mark.parametrize("name", ["resnet18d", "resnet50", "resnet50d", "resnet50s"])
def test_backbone_parameters_are_the_classifiers_less_its_last_layer(name):
    classifier = shapes(create_model(name))
    fcn = shapes(create_fcn(name, 11))
    del classifier["params"]["fc"]
    assert {key: tree["backbone"] for key, tree in fcn.items()} == classifier


@pytest.mark.parametrize("size", [96, 97])
@pytest.mark.parametrize(
    "name", ["resnet18d", "resnet50", "resnet50b", "resnet50c", "resnet50d"]
)
def test_maps_are_an_eighth_of_the_image_and_scores_as_large_as_it(name, size):
    seen = {}

    def record(call, args, kwargs, context):
        out = call(*args, **kwargs)
        seen["/".join(context.module.path)] = out
        return out

    model = create_fcn(name, 11)
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    with nn.intercept_methods(record):
        logits, _ = jax.eval_shape(
            partial(model.init_with_output, jax.random.key(0)), image
        )
    assert logits.out.shape == logits.aux.shape == (2, size, size, 11)
    for head, channels in (("classifier", 2048), ("aux_classifier", 1024)):
        side, deep = math.ceil(size / 8), channels // (4 if "18" in name else 1)
        assert seen[head].shape == (2, side, side, 11)
        assert seen[f"{head}/conv1"].shape == (2, side, side, deep // 4)


def stage_maps(model, variables, images):
    return quick(lambda v, x: model.apply(v, x, stages=True), variables, images)


@pytest.fixture(scope="module")
def small_d():
    variables = random_variables(create_model("resnet50d", **SMALL), 64)
    del variables["params"]["fc"]
    return variables


def test_d_with_a_same_pool_is_undilated_d_sampled_more_densely(small_d):
    """Defined for even maps; at the border of odd ones the two pools differ."""
    images = np.random.default_rng(1).normal(size=(1, 64, 64, 3)).astype(np.float32)
    options = {"output_stride": 16, "dilated_pool": "same"}
    plain = stage_maps(create_model("resnet50d", **SMALL), small_d, images)
    dense = stage_maps(create_model("resnet50d", **options, **SMALL), small_d, images)
    for coarse, fine in zip(plain[:3], dense[:3], strict=True):
        np.testing.assert_array_equal(coarse, fine)
    assert dense[3].shape[1:3] == (4, 4) and plain[3].shape[1:3] == (2, 2)
    error = np.abs(dense[3][:, ::2, ::2] - plain[3]).max()
    assert error <= 1e-4 * np.abs(plain[3]).max()


def test_dilated_d_does_not_pool_where_it_does_not_stride(small_d):
    """gluon-cv's reading (its issue 683): the shortcut is a 1x1 and BN alone."""
    pairs = {}

    def record(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if isinstance(context.module, Shortcut) and context.method_name == "__call__":
            pairs[context.module.path[0]] = (args[0], out)
        return out

    def run(variables, images):
        pairs.clear()
        with nn.intercept_methods(record):
            model.apply(variables, images, stages=True)
        return pairs

    model = create_model("resnet50d", output_stride=8, **SMALL)
    images = np.random.default_rng(1).normal(size=(1, 64, 64, 3)).astype(np.float32)
    seen = jax.device_get(quick(run, small_d, images))
    assert set(seen) == {"layer1_0", "layer2_0", "layer3_0", "layer4_0"}
    for block in ("layer1_0", "layer3_0", "layer4_0"):
        x, found = seen[block]
        layers = small_d["params"][block]["downsample"]
        running = small_d["batch_stats"][block]["downsample"]["bn"]
        y = x.astype(np.float64) @ layers["conv"]["kernel"][0, 0]
        y = (y - running["mean"]) / np.sqrt(running["var"] + 1e-5)
        want = y * layers["bn"]["scale"] + layers["bn"]["bias"]
        assert np.abs(found - want).max() <= 1e-4 * np.abs(want).max()
    x, found = seen["layer2_0"]
    assert x.shape[1:3] == (16, 16) and found.shape[1:3] == (8, 8)


def test_bilinear_upsampling_is_linear_between_the_centres_of_pixels():
    rows = np.arange(4, dtype=np.float32)[None, :, None, None]
    scores = np.broadcast_to(rows, (1, 4, 3, 2))
    found = upsample(jnp.asarray(scores), 32, 12)
    want = np.clip((np.arange(32) + 0.5) / 8 - 0.5, 0, 3)
    np.testing.assert_allclose(
        found, np.broadcast_to(want[None, :, None, None], (1, 32, 12, 2)), atol=1e-5
    )


def test_a_skip_adds_scores_of_stage_1_and_starts_at_zero():
    options: dict[str, Any] = {"width": 8, "stem_pool": False, "aux": False}
    plain, skipped = (
        create_fcn("resnet10d", 3, skip=skip, **options) for skip in (False, True)
    )
    images = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype(np.float32)
    variables = jax.jit(skipped.init, compiler_options=parity.QUICK)(
        jax.random.key(0), images
    )
    without = jax.tree.map(np.asarray, variables)
    kernel = without["params"].pop("skip_classifier")["kernel"]
    assert kernel.shape == (1, 1, 8, 3) and not kernel.any()
    base = quick(plain.apply, without, images).out
    np.testing.assert_array_equal(quick(skipped.apply, variables, images).out, base)

    kernel = np.random.default_rng(2).normal(size=(8, 3)).astype(np.float32)
    bias = np.array([0.5, -1, 2], np.float32)
    variables["params"]["skip_classifier"] = {
        "kernel": kernel[None, None],
        "bias": bias,
    }
    backbone = {name: tree["backbone"] for name, tree in without.items()}
    stage = stage_maps(plain.backbone, backbone, images)[0]
    assert stage.shape == (2, 16, 16, 8)  # half the image: a stem without pool
    fine = upsample(jnp.asarray(np.asarray(stage) @ kernel + bias), 32, 32)
    found = quick(skipped.apply, variables, images).out
    np.testing.assert_allclose(found, base + fine, rtol=1e-5, atol=1e-5)


def test_training_updates_every_batch_norm_and_drops_out_in_the_heads():
    model = create_fcn("resnet14d", 3, width=8)
    variables = random_variables(model)
    images = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype(np.float32)

    def train(variables, images, key):
        return model.apply(
            variables,
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )

    first, new = quick(train, variables, images, jax.random.key(0))
    second, _ = quick(train, variables, images, jax.random.key(1))
    assert (first.out != second.out).any() and (first.aux != second.aux).any()
    old, new = flatten_dict(variables["batch_stats"]), flatten_dict(new["batch_stats"])
    assert old.keys() == new.keys()
    assert all((old[path] != new[path]).any() for path in old)


def test_low_precision_reaches_the_heads_and_the_scores_are_float32():
    model = create_fcn("resnet14d", 3, width=8, dtype=jnp.bfloat16)
    seen = {}

    def record(call, args, kwargs, context):
        seen["/".join(context.module.path)] = out = call(*args, **kwargs)
        return out

    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    with nn.intercept_methods(record):
        logits, variables = jax.eval_shape(
            partial(model.init_with_output, jax.random.key(0)), image
        )
    assert seen["classifier/conv1"].dtype == jnp.bfloat16
    assert logits.out.dtype == logits.aux.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_a_backbone_that_cannot_be_dilated_is_an_error():
    with pytest.raises(
        ConfigError, match=r"'mobilenet' cannot be dilated; .*resnet50d"
    ):
        create_fcn("mobilenet", 3)
    with pytest.raises(ConfigError, match="'resnet50x' is unknown"):
        create_fcn("resnet50x", 3)
