"""Evaluation logits of options and odd sizes against timm's, one table for all."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.models import create_model
from rtj.weights.names import from_torch, to_torch
from tests.models import parity

_TIMM_MOBILENET: dict[str, Any] = {"activation": "relu6"}
# Key in timm.eval_logits.npz (it ends in the image size), our name, options.
VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    *[(f"resnet26d.{size}", "resnet26d", {}) for size in (225, 240, 97, 75, 33)],
    ("resnet18d.75", "resnet18d", {}),
    (
        "resnet26d.stride16.75",
        "resnet26d",
        {"output_stride": 16, "dilated_pool": "same"},
    ),
    ("resnet26d.stride8.75", "resnet26d", {"output_stride": 8, "dilated_pool": "same"}),
    ("resnet26d.stride8.identity.75", "resnet26d", {"output_stride": 8}),
    ("resnet18d.stride8.75", "resnet18d", {"output_stride": 8, "dilated_pool": "same"}),
    ("resnet26.v1_bias.75", "resnet26", {"bias_1x1": True}),
    ("seresnet26d.75", "resnet26d", {"squeeze_excite": True}),
    (
        "mobilenetv1_100.same.75",
        "mobilenet",
        {"padding": "same", "bn_epsilon": 1e-3, **_TIMM_MOBILENET},
    ),
    ("mobilenetv1_050.75", "mobilenet_050", _TIMM_MOBILENET),
    ("densenet121.75", "densenet121", {}),
    ("inception_v3.97", "inception_v3", {}),
]


@pytest.fixture(scope="module")
def logits():
    with np.load(parity.FOLDER / "timm.eval_logits.npz") as file:
        return dict(file)


def test_table_covers_the_file(logits):
    assert sorted(logits) == sorted(key for key, _, _ in VARIANTS)


@pytest.mark.parametrize(
    ("key", "name", "options"), VARIANTS, ids=[key for key, _, _ in VARIANTS]
)
def test_variant_computes_what_timm_computes(key, name, options, logits):
    images = parity.images(int(key.rsplit(".", 1)[1])).astype(np.float32)
    model = create_model(name, num_classes=10, **options)
    like = jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, train=False), images
    )
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape), like)
    shapes = {key: value.shape for key, value in to_torch(name, zeros).items()}
    tensors = parity.state_dict(shapes)
    variables = from_torch(name, tensors, like)
    step = jax.jit(
        lambda v, x: model.apply(v, x, train=False), compiler_options=parity.QUICK
    )
    wanted = logits[key]
    error = np.max(np.abs(step(variables, jnp.asarray(images)) - wanted))
    # float32 rounding gives 2e-7 to 1e-6 here.
    assert error <= 1e-5 * np.max(np.abs(wanted))
