"""Running some stages of a ResNet, and parts of a map as a detector does."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.models import create_model
from tests.models import parity

SMALL: dict[str, Any] = {"stage_sizes": (1, 2, 1, 1), "width": 8}


def variables(model, size=32):
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    init = partial(model.init, train=False)
    shapes = jax.eval_shape(init, jax.random.key(0), image)
    rng = np.random.default_rng(0)

    def draw(leaf):
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 1
        return np.abs(rng.normal(0, scale, leaf.shape)).astype(np.float32) - (
            0 if leaf.ndim == 1 else np.float32(scale * 0.8)
        )

    return jax.tree.map(draw, shapes)


def run(model, values, x, **how):
    apply = partial(model.apply, stages=True, **how)
    return jax.jit(apply, compiler_options=parity.QUICK)(values, x)


@pytest.mark.parametrize("name", ["resnet26d", "resnet18"])
def test_stages_run_apart_make_up_the_whole_network(name):
    model = create_model(name, **SMALL)
    values = variables(model)
    images = np.random.default_rng(1).normal(size=(2, 33, 47, 3)).astype(np.float32)
    whole = run(model, values, images)
    first = run(model, values, images, stop=3)
    last = run(model, values, first[-1], start=3)
    assert len(whole) == 4 and len(first) == 3 and len(last) == 1
    for found, wanted in zip([*first, *last], whole, strict=True):
        # Two programs sum float32 in two orders.
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_stages_apart_have_the_classifiers_names():
    model = create_model("resnet26d", **SMALL)
    whole = variables(model)
    del whole["params"]["fc"]
    image = jax.ShapeDtypeStruct((1, 8, 8, 128), jnp.float32)
    key = jax.random.key(0)
    last = jax.eval_shape(partial(model.init, stages=True, start=3), key, image)
    assert set(last["params"]) == {"layer4_0"}
    for kind, tree in last.items():
        assert jax.tree.map(lambda x: x.shape, tree["layer4_0"]) == jax.tree.map(
            lambda x: x.shape, whole[kind]["layer4_0"]
        )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet26d", {}),
        ("resnet26d", {"output_stride": 16, "dilated_pool": "same"}),
        ("seresnet50d", {}),
    ],
)
def test_parts_of_maps_are_computed_like_maps_of_their_own(name, options):
    model = create_model(name, **SMALL, **options)
    values = variables(model)
    parts = np.random.default_rng(1).normal(size=(2, 4, 7, 6, 128)).astype(np.float32)
    (together,) = run(model, values, parts, start=3)
    (apart,) = run(model, values, parts.reshape(8, 7, 6, 128), start=3)
    np.testing.assert_allclose(
        together, apart.reshape(together.shape), rtol=1e-5, atol=1e-5
    )


def test_statistics_of_parts_are_taken_over_the_parts_of_a_group_of_images():
    model = create_model("resnet26d", bn_group_size=2, **SMALL)
    values = variables(model)
    rng = np.random.default_rng(1)
    parts = rng.normal(size=(4, 3, 7, 5, 128)).astype(np.float32)
    how = {"start": 3, "train": True, "mutable": ["batch_stats"]}
    both, _ = run(model, values, parts, **how)
    for group in (slice(0, 2), slice(2, 4)):
        alone, _ = run(model, values, parts[group], **how)
        np.testing.assert_allclose(both[0][group], alone[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize(
    ("stem", "first"),
    [({}, 4), ({"stem_pool": False}, 2), ({"small_images": True}, 1)],
)
def test_strides_are_those_of_the_maps(output_stride, stem, first):
    model = create_model("resnet26d", output_stride=output_stride, **stem, **SMALL)
    assert model.strides[0] == first
    values = variables(model)
    image = jax.ShapeDtypeStruct((1, 96, 160, 3), jnp.float32)
    maps = jax.eval_shape(partial(model.apply, stages=True), values, image)
    assert [x.shape[1:3] for x in maps] == [
        (96 // stride, 160 // stride) for stride in model.strides
    ]
