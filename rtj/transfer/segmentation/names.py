"""Our parameter paths of FCN and torchvision's names for them.

torchvision's `fcn_resnet50` keeps a ResNet under `backbone`, named as in
`rtj.weights.names`, and two heads whose layers are numbered: 0 is the 3x3
convolution, 1 its batch norm, 4 the 1x1 convolution.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from rtj.errors import CheckpointError
from rtj.weights import names
from rtj.weights.names import Entry

_HEADS = ("classifier", "aux_classifier")
_LAYERS = {"conv1": "0", "bn1": "1", "conv2": "4"}
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_TO_TORCH = {"conv": (3, 2, 0, 1), "vector": (0,)}
_FROM_TORCH = {"conv": (2, 3, 1, 0), "vector": (0,)}


def torch_names(backbone: str, variables: Any) -> list[Entry]:
    """Every tensor of an FCN: torchvision's name, our path, and its kind.

    Args:
        backbone: its name in the registry.
        variables: {"params": ..., "batch_stats": ...}, arrays or shapes.
    """
    inner = {key: tree["backbone"] for key, tree in variables.items()}
    entries = [
        Entry(f"backbone.{key}", (path[0], "backbone", *path[1:]), kind)
        for key, path, kind in names.torch_names(backbone, inner)
    ]
    for path, leaf in flatten_dict(dict(variables)).items():
        _, head, layer, last = path if path[1] in _HEADS else ("", "", "", "")
        if head:
            key = f"{head}.{_LAYERS[layer]}.{_LEAVES[last]}"
            entries.append(Entry(key, path, "conv" if leaf.ndim == 4 else "vector"))
    return entries


def to_torch(backbone: str, variables: Any) -> dict[str, np.ndarray]:
    """`variables` as a torchvision state dict of NumPy arrays, dtypes kept."""
    flat = flatten_dict(dict(variables))
    return {
        key: np.ascontiguousarray(np.transpose(np.asarray(flat[path]), _TO_TORCH[kind]))
        for key, path, kind in torch_names(backbone, variables)
    }


def from_torch(backbone: str, tensors: Mapping[str, Any], variables_like: Any) -> Any:
    """A torchvision state dict as variables of an FCN.

    Args:
        backbone: its name in the registry; torchvision's `resnet50` is `resnet50b`.
        tensors: name to array, any float dtype. An auxiliary head is left out if
            the network has none.
        variables_like: {"params": ..., "batch_stats": ...}, arrays or
            `ShapeDtypeStruct`s: what to return the shapes and dtypes of.

    Raises:
        CheckpointError: lists all missing, extra and mis-shaped tensors.
    """
    flat = flatten_dict(dict(variables_like))
    entries = torch_names(backbone, variables_like)
    has_aux = "aux_classifier" in variables_like["params"]
    found = {
        key: np.asarray(value)
        for key, value in tensors.items()
        if not key.endswith("num_batches_tracked")
        and (has_aux or not key.startswith("aux_classifier."))
    }
    wanted = {
        key: tuple(flat[path].shape[axis] for axis in _TO_TORCH[kind])
        for key, path, kind in entries
    }
    _check(backbone, found, wanted)
    return unflatten_dict(
        {
            path: np.ascontiguousarray(
                np.transpose(found[key], _FROM_TORCH[kind]).astype(flat[path].dtype)
            )
            for key, path, kind in entries
        }
    )


def _check(
    backbone: str, found: dict[str, np.ndarray], wanted: dict[str, tuple[int, ...]]
) -> None:
    kinds = {
        "missing": sorted(wanted.keys() - found.keys()),
        "extra": sorted(found.keys() - wanted.keys()),
        "mis-shaped": [
            f"{key} {found[key].shape}, not {shape}"
            for key, shape in sorted(wanted.items())
            if key in found and found[key].shape != shape
        ],
    }
    faults = [f"{len(n)} {what}: {', '.join(n)}" for what, n in kinds.items() if n]
    if faults:
        raise CheckpointError(
            f"the tensors do not fit an FCN on {backbone}: {'; '.join(faults)}"
        )
