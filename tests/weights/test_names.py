"""Our paths and PyTorch's names, in both directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.errors import CheckpointError
from rtj.models import create_model
from rtj.weights.names import from_torch, to_torch, torch_names
from tests.models import parity

# A PyTorch state dict's names and shapes, and the network they belong to.
STATE_DICTS = [
    ("timm.resnet18d.64", "resnet18d", {}),
    ("timm.resnet50.64", "resnet50", {}),
    ("timm.resnet50.64", "resnet50b", {}),
    ("timm.resnet50c.64", "resnet50c", {}),
    ("timm.resnet50d.64", "resnet50d", {}),
    ("timm.seresnet50.64", "seresnet50", {}),
    ("timm.resnext50d_32x4d.64", "resnext50d_32x4d", {}),
    ("timm.densenet201.64", "densenet201", {}),
    ("torchvision.densenet201.64", "densenet201", {}),
    ("timm.mobilenetv1_100.64", "mobilenet", {}),
    ("timm.inception_v3.128", "inception_v3", {}),
    ("torchvision.inception_v3.299", "inception_v3", {"aux_head": True}),
]


def _like(name, **options):
    """Shapes and dtypes of a network's variables."""
    model = create_model(name, **options)
    size = model.native_size
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))


def _random(like):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape, np.float32).astype(leaf.dtype),
        like,
    )


@pytest.fixture(scope="module")
def small():
    """Variables of a ResNet-14-D with 3 classes, as shapes and as a state dict."""
    like = _like("resnet14d", num_classes=3)
    return like, to_torch("resnet14d", _random(like))


@pytest.mark.parametrize(("file", "name", "options"), STATE_DICTS)
def test_names_and_shapes_are_those_of_the_library(file, name, options):
    like = _like(name, **options)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    found = {key: value.shape for key, value in to_torch(name, zeros).items()}
    wanted = parity.read(file).shapes
    assert found == {
        key: shape
        for key, shape in wanted.items()
        if not key.endswith("num_batches_tracked")
    }


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18s", {}),
        ("resnet50", {"bias_1x1": True}),
        ("seresnet50d", {}),
        ("densenet121", {}),
        ("mobilenet_025", {}),
        ("inception_v3", {"aux_head": True}),
    ],
)
def test_round_trip_is_bit_equal(name, options):
    like = _like(name, **options)
    variables = _random(like)
    tensors = to_torch(name, variables)
    assert all(tensor.flags.c_contiguous for tensor in tensors.values())
    back = from_torch(name, tensors, like)
    # Fails if the structures differ, too.
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    again = to_torch(name, back)
    assert all(np.array_equal(again[key], tensors[key]) for key in tensors)


@pytest.mark.parametrize(
    ("name", "conv", "norm"),
    [
        ("resnet50b", 0, 1),
        ("resnet50c", 0, 1),
        ("resnet50s", 0, 1),
        ("resnet50d", 1, 2),
    ],
)
def test_shortcut_counts_the_pool_in_d_alone(name, conv, norm):
    keys = {entry.key for entry in torch_names(name)}
    for layer in (1, 2):
        shortcut = {key for key in keys if key.startswith(f"layer{layer}.0.down")}
        assert shortcut == {
            f"layer{layer}.0.downsample.{conv}.weight",
            *(
                f"layer{layer}.0.downsample.{norm}.{leaf}"
                for leaf in ("weight", "bias", "running_mean", "running_var")
            ),
        }


def test_gluon_v1_biases_stand_beside_their_weights():
    keys = {e.key for e in torch_names("resnet50", _like("resnet50", bias_1x1=True))}
    biases = keys - {entry.key for entry in torch_names("resnet50")}
    assert len(biases) == 2 * 16
    assert {"layer1.0.conv1.bias", "layer4.2.conv3.bias"} <= biases


def test_layouts_are_pytorchs():
    like = _like("mobilenet_025", num_classes=3)
    variables = _random(like)
    tensors = to_torch("mobilenet_025", variables)
    kernel = variables["params"]["stem"]["conv1"]["kernel"]
    np.testing.assert_array_equal(
        tensors["conv_stem.weight"], np.einsum("hwio->oihw", kernel)
    )
    dense = variables["params"]["fc"]["kernel"]
    np.testing.assert_array_equal(tensors["classifier.weight"], dense.T)


def test_all_faults_come_in_one_error(small):
    like, tensors = small
    bad = dict(tensors)
    del bad["bn1.bias"], bad["layer4.0.conv2.weight"]
    bad["fc2.weight"] = np.zeros(3)
    bad["fc.weight"] = np.zeros((1000, 2048))
    with pytest.raises(CheckpointError) as error:
        from_torch("resnet14d", bad, like)
    text = str(error.value)
    assert "do not fit resnet14d" in text
    assert "2 missing: bn1.bias, layer4.0.conv2.weight" in text
    assert "1 extra: fc2.weight" in text
    assert "1 mis-shaped: fc.weight (1000, 2048), not (3, 2048)" in text


def test_weights_of_another_variant_are_refused(small):
    _, tensors = small
    with pytest.raises(CheckpointError, match=r"missing: .*downsample.0.weight"):
        from_torch("resnet14c", tensors, _like("resnet14c", num_classes=3))


def test_batch_counters_are_ignored_and_dtypes_follow_the_network(small):
    like, tensors = small
    wide = {key: value.astype(np.float64) for key, value in tensors.items()}
    wide["bn1.num_batches_tracked"] = np.array(5)
    found = from_torch("resnet14d", wide, like)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float32")}
    np.testing.assert_array_equal(
        found["params"]["stem"]["bn3"]["scale"], tensors["bn1.weight"]
    )


def test_torchvisions_old_densenet_names_are_read():
    like = _like("densenet121", num_classes=3)
    variables = _random(like)
    old = {}
    for key, value in to_torch("densenet121", variables).items():
        for part in ("norm1", "norm2", "conv1", "conv2"):
            if "denselayer" in key:
                key = key.replace(part, f"{part[:4]}.{part[4]}")
        old[key] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    back = from_torch("densenet121", old, like)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
