"""Our parameter paths and PyTorch's names for them, one table per family.

A table's rows pair a pattern for our module path (joined by "/") with PyTorch's
module name; the same rows serve both directions. PyTorch's names are those that
timm and torchvision share; weights that timm converted from gluon-cv have them
too. `resnet50`, which neither library has, takes the names of theirs.

Layouts: convolutions HWIO here and OIHW there, dense kernels (in, out) here and
(out, in) there. `num_batches_tracked` has no counterpart: it is never written,
and ignored where it is read.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rtj.errors import CheckpointError
from rtj.models import create_model
from rtj.models.densenet import DenseNet
from rtj.models.inception import InceptionV3
from rtj.models.mobilenet import MobileNet
from rtj.models.resnet import ResNet
from rtj.models.summary import native_size

Table = tuple[tuple[str, str], ...]

RESNET: Table = (
    (r"layer(\d)_(\d+)/(conv\d|bn\d)", r"layer\1.\2.\3"),
    (r"layer(\d)_(\d+)/se/(fc\d)", r"layer\1.\2.se.\3"),
    (r"fc", "fc"),
)
PLAIN_STEM: Table = ((r"stem/conv1", "conv1"), (r"stem/bn1", "bn1"))
DEEP_STEM: Table = (
    (r"stem/conv1", "conv1.0"),
    (r"stem/bn1", "conv1.1"),
    (r"stem/conv2", "conv1.3"),
    (r"stem/bn2", "conv1.4"),
    (r"stem/conv3", "conv1.6"),
    (r"stem/bn3", "bn1"),
)
SHORTCUT: Table = (
    (r"layer(\d)_(\d+)/downsample/conv", r"layer\1.\2.downsample.0"),
    (r"layer(\d)_(\d+)/downsample/bn", r"layer\1.\2.downsample.1"),
)
# The pool takes index 0, even where it is the identity.
POOLED_SHORTCUT: Table = (
    (r"layer(\d)_(\d+)/downsample/conv", r"layer\1.\2.downsample.1"),
    (r"layer(\d)_(\d+)/downsample/bn", r"layer\1.\2.downsample.2"),
)
DENSENET: Table = (
    (r"stem/conv1", "features.conv0"),
    (r"stem/bn1", "features.norm0"),
    (r"block(\d)_(\d+)/conv(\d)", r"features.denseblock\1.denselayer\2+1.conv\3"),
    (r"block(\d)_(\d+)/bn(\d)", r"features.denseblock\1.denselayer\2+1.norm\3"),
    (r"transition(\d)/conv", r"features.transition\1.conv"),
    (r"transition(\d)/bn", r"features.transition\1.norm"),
    (r"final_bn", "features.norm5"),
    (r"fc", "classifier"),
)
MOBILENET: Table = (
    (r"stem/conv1", "conv_stem"),
    (r"stem/bn1", "bn1"),
    (r"layer(\d)_(\d+)/(conv_dw|bn1|conv_pw|bn2)", r"blocks.\1-1.\2.\3"),
    (r"fc", "classifier"),
)
INCEPTION: Table = (
    (r"(Conv2d_\w+)/(conv|bn)", r"\1.\2"),
    (r"(Mixed_\w+|AuxLogits)/(\w+)/(conv|bn)", r"\1.\2.\3"),
    (r"AuxLogits/fc", "AuxLogits.fc"),
    (r"fc", "fc"),
)
_LEAVES = {
    ("params", "kernel"): "weight",
    ("params", "scale"): "weight",
    ("params", "bias"): "bias",
    ("batch_stats", "mean"): "running_mean",
    ("batch_stats", "var"): "running_var",
}
# torchvision's released DenseNet files still say `norm.1` for `norm1`.
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)")


class Entry(NamedTuple):
    """One tensor: PyTorch's name, our path, and how its axes are permuted.

    `path` starts with the collection: ("params", "layer1_0", "conv1", "kernel").
    `kind` is `conv`, `dense` or `vector`.
    """

    key: str
    path: tuple[str, ...]
    kind: str


# Our axes in PyTorch's order, and back.
_TO_TORCH = {"conv": (3, 2, 0, 1), "dense": (1, 0), "vector": (0,)}
_FROM_TORCH = {"conv": (2, 3, 1, 0), "dense": (1, 0), "vector": (0,)}


def torch_names(name: str, variables: Any = None) -> list[Entry]:
    """Every tensor of the network `name`.

    Args:
        name: of the registry. It decides what the leaves cannot tell: whether
            shortcuts count a pool.
        variables: {"params": ..., "batch_stats": ...}, arrays or shapes, if the
            network was made with other options than the name's own.
    """
    if variables is None:
        variables = _default_variables(name)
    table = _table(name, variables)
    leaves = jax.tree_util.tree_leaves_with_path(
        {key: variables[key] for key in ("params", "batch_stats") if key in variables}
    )
    entries = []
    for keys, leaf in leaves:
        path = tuple(key.key for key in keys)
        collection, *modules, last = path
        module = _torch_module("/".join(modules), table)
        kind = {4: "conv", 2: "dense", 1: "vector"}[len(leaf.shape)]
        entries.append(Entry(f"{module}.{_LEAVES[collection, last]}", path, kind))
    return entries


def to_torch(name: str, variables: Any) -> dict[str, np.ndarray]:
    """`variables` as a PyTorch state dict of NumPy arrays, dtypes kept."""
    return {
        entry.key: np.ascontiguousarray(
            np.transpose(np.asarray(_get(variables, entry.path)), _TO_TORCH[entry.kind])
        )
        for entry in torch_names(name, variables)
    }


def from_torch(name: str, tensors: Mapping[str, Any], variables_like: Any) -> Any:
    """A PyTorch state dict as variables of the network `name`.

    Args:
        name: of the registry.
        tensors: name to array (anything NumPy reads), any float dtype.
        variables_like: {"params": ..., "batch_stats": ...}, arrays or
            `ShapeDtypeStruct`s: what to return the shapes and dtypes of.

    Returns:
        NumPy arrays in the structure, shapes and dtypes of `variables_like`.

    Raises:
        CheckpointError: lists all missing, extra and mis-shaped tensors.
    """
    entries = torch_names(name, variables_like)
    found = {
        _OLD_DENSENET.sub(r"\1\2", key): np.asarray(value)
        for key, value in tensors.items()
        if not key.endswith("num_batches_tracked")
    }
    _check(name, entries, found, variables_like)
    out: dict[str, Any] = {}
    for entry in entries:
        value = np.transpose(found[entry.key], _FROM_TORCH[entry.kind])
        *parents, last = entry.path
        node = out
        for parent in parents:
            node = node.setdefault(parent, {})
        dtype = _get(variables_like, entry.path).dtype
        node[last] = np.ascontiguousarray(value.astype(dtype))
    return out


def _check(
    name: str, entries: list[Entry], found: dict[str, np.ndarray], like: Any
) -> None:
    wanted = {
        entry.key: tuple(
            _get(like, entry.path).shape[axis] for axis in _TO_TORCH[entry.kind]
        )
        for entry in entries
    }
    missing = sorted(wanted.keys() - found.keys())
    extra = sorted(found.keys() - wanted.keys())
    shaped = [
        f"{key} {found[key].shape}, not {shape}"
        for key, shape in sorted(wanted.items())
        if key in found and found[key].shape != shape
    ]
    faults = [
        f"{len(names)} {what}: {', '.join(names)}"
        for what, names in (
            ("missing", missing),
            ("extra", extra),
            ("mis-shaped", shaped),
        )
        if names
    ]
    if faults:
        raise CheckpointError(f"the tensors do not fit {name}: {'; '.join(faults)}")


def _table(name: str, variables: Any) -> Table:
    model = create_model(name)
    if isinstance(model, ResNet):
        deep = "conv2" in variables["params"]["stem"]
        stem = DEEP_STEM if deep else PLAIN_STEM
        shortcut = POOLED_SHORTCUT if model.pooled_shortcut else SHORTCUT
        return RESNET + stem + shortcut
    return {DenseNet: DENSENET, MobileNet: MOBILENET, InceptionV3: INCEPTION}[
        type(model)
    ]


def _torch_module(module: str, table: Table) -> str:
    for pattern, template in table:
        match = re.fullmatch(pattern, module)
        if match:
            return _add_offsets(match.expand(template))
    raise CheckpointError(f"no row of the name table fits the module {module!r}")


def _add_offsets(name: str) -> str:
    """`denselayer0+1` to `denselayer1`, `blocks.1-1` to `blocks.0`."""
    return re.sub(r"(\d+)([+-]\d+)", lambda m: str(int(m[1]) + int(m[2])), name)


def _default_variables(name: str) -> Any:
    model = create_model(name)
    size = native_size(model)
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )


def _get(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree
