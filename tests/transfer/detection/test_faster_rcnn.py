"""The network's parameters, against closed forms and torchvision; its shapes."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from rtj.errors import ConfigError
from rtj.models import create_model
from rtj.transfer.detection.faster_rcnn import create_faster_rcnn

# ResNet-50 has 25,557,032 parameters, 2,049,000 of them in its classifier.
RESNET50 = 25_557_032 - 2_049_000
# Scales and biases of its 26,560 batch-norm channels.
RESNET50_NORM = 2 * 26_560
SMALL: dict[str, Any] = {"width": 8, "rpn_channels": 16, "fpn_channels": 12, "fc": 20}


def shapes(model, size=64):
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    init = partial(model.init_with_output, train=False)
    return jax.eval_shape(init, jax.random.key(0), image)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_c4_has_the_layers_of_gluon_cvs_network_for_voc():
    _, variables = shapes(create_faster_rcnn("resnet50b", 20))
    params = variables["params"]
    assert set(params) == {"backbone", "rpn", "head"}
    assert count(params["backbone"]) == RESNET50
    conv = 9 * 1024 * 1024 + 1024
    assert count(params["rpn"]) == conv + (1024 + 1) * 15 * (1 + 4)
    assert count(params["head"]) == (2048 + 1) * (21 + 80)
    assert {"/".join(path): leaf.shape for path, leaf in flat(params["rpn"])} == {
        "conv/kernel": (3, 3, 1024, 1024),
        "conv/bias": (1024,),
        "cls_logits/kernel": (1, 1, 1024, 15),
        "cls_logits/bias": (15,),
        "bbox_pred/kernel": (1, 1, 1024, 60),
        "bbox_pred/bias": (60,),
    }


def flat(tree):
    return flatten_dict(tree).items()


def test_fpn_has_as_many_parameters_as_torchvisions():
    """fasterrcnn_resnet50_fpn, 91 classes with background: 41,755,286. Its batch norm
    has no parameters, and its background has a box."""
    _, variables = shapes(create_faster_rcnn("resnet50b", 90, neck="fpn"))
    assert set(variables["params"]) == {"backbone", "fpn", "rpn", "head"}
    background = 4 * (1024 + 1)
    assert count(variables["params"]) - RESNET50_NORM + background == 41_755_286


@pytest.mark.parametrize("neck", ["c4", "fpn"])
@pytest.mark.parametrize("name", ["resnet18d", "resnet26"])
def test_backbone_parameters_are_the_classifiers_less_its_last_layer(name, neck):
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    classifier = jax.eval_shape(create_model(name).init, jax.random.key(0), image)
    _, variables = shapes(create_faster_rcnn(name, 20, neck=neck))
    del classifier["params"]["fc"]
    for kind, tree in classifier.items():
        backbone = variables[kind]["backbone"]
        assert {path: leaf.shape for path, leaf in flat(backbone)} == {
            path: leaf.shape for path, leaf in flat(tree)
        }


@pytest.mark.parametrize("neck", ["c4", "fpn"])
@pytest.mark.parametrize(
    "options", [{}, {"small_images": True}, {"output_stride": 8}], ids=str
)
def test_every_place_of_every_map_has_its_anchors(neck, options):
    model = create_faster_rcnn("resnet14d", 7, neck=neck, **SMALL, **options)
    seen = {}

    def look(model, images):
        maps = model.features(images, train=False)
        seen["anchors"] = model.anchors(maps)
        return maps, model.propose(maps)

    _, variables = shapes(model)
    image = jax.ShapeDtypeStruct((2, 96, 128, 3), jnp.float32)
    maps, rpn = jax.eval_shape(partial(model.apply, method=look), variables, image)
    for x, stride, anchors, logits, offsets in zip(
        maps, model.map_strides, seen["anchors"], *rpn, strict=True
    ):
        assert x.shape[1:3] == (-(-96 // stride), -(-128 // stride))
        per_place = 15 if neck == "c4" else 3
        assert logits.shape == (2, x.shape[1] * x.shape[2] * per_place)
        assert offsets.shape == (*logits.shape, 4)
        assert anchors.shape == offsets.shape[1:]
        # The last place's first anchor, half a stride from the map's corner.
        center = (anchors[-1, :2] + anchors[-1, 2:]) / 2
        assert center.tolist() == [
            (x.shape[2] - 0.5) * stride,
            (x.shape[1] - 0.5) * stride,
        ]
        assert (anchors[:, 2:] > anchors[:, :2]).all()


@pytest.mark.parametrize("neck", ["c4", "fpn"])
def test_low_precision_reaches_all_convolutions_and_the_outputs_are_float32(neck):
    model = create_faster_rcnn("resnet14d", 3, neck=neck, dtype=jnp.bfloat16, **SMALL)
    seen = {}

    def record(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if isinstance(context.module, nn.Conv):
            seen["/".join(context.module.path)] = out.dtype
        return out

    with nn.intercept_methods(record):
        outputs, variables = shapes(model)
    wide = {name for name, dtype in seen.items() if dtype != jnp.bfloat16}
    assert wide == {"rpn/cls_logits", "rpn/bbox_pred"}
    assert "backbone/layer4_0/conv1" in seen
    for leaf in jax.tree.leaves((outputs, variables)):
        assert leaf.dtype == jnp.float32
    assert outputs[1].logits.shape == (1, 1, 4)
    assert outputs[1].offsets.shape == (1, 1, 3, 4)


def test_new_layers_start_as_gluon_cvs_do():
    model = create_faster_rcnn("resnet14", 10, width=16, rpn_channels=64)
    image = jnp.zeros((1, 32, 32, 3))
    init = jax.jit(lambda key: model.init(key, image)["params"])
    params = init(jax.random.key(0))
    for module, layer, std in (
        ("rpn", "conv", 0.01),
        ("rpn", "cls_logits", 0.01),
        ("rpn", "bbox_pred", 0.01),
        ("head", "cls_score", 0.01),
        ("head", "bbox_pred", 0.001),
    ):
        kernel = params[module][layer]["kernel"]
        # Four standard errors of a standard deviation.
        assert abs(kernel.std() / std - 1) < 4 / (2 * kernel.size) ** 0.5
        assert not params[module][layer]["bias"].any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "mobilenet"}, r"'mobilenet' is no ResNet; .*resnet50d"),
        ({"neck": "c5"}, "'c5' is unknown"),
        ({"neck": "fpn", "anchor_sizes": (8, 16)}, "one for each level"),
        ({"widht": 8}, "'widht' is unknown"),
    ],
)
def test_what_cannot_be_built_is_an_error(arguments, message):
    arguments = {"backbone": "resnet14"} | arguments
    with pytest.raises(ConfigError, match=message):
        create_faster_rcnn(**arguments, num_classes=3)
