"""Weights from any file into the variables of a model, all or nothing."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from rtj.errors import CheckpointError
from rtj.models import create_model
from rtj.weights import head as heads_
from rtj.weights.architectures import architecture, registry_name
from rtj.weights.head import Expected, Head
from rtj.weights.metadata import parse
from rtj.weights.names import from_torch, torch_names
from rtj.weights.read import read_weights
from rtj.weights.state_dict import strip_prefix
from rtj.weights.weight_file import MAX_BYTES, WeightFile, some

# A training checkpoint holds the weights, an average, the optimizer's moments, in up
# to float64; 16 times the model's float32 covers it.
_ROOM = 16
_SMALL = 64 * 2**20
_AUX = "AuxLogits"
_TORCH_AXES = {"conv": (3, 2, 0, 1), "dense": (1, 0), "vector": (0,)}

_log = logging.getLogger(__name__)


def load_weights(
    model: nn.Module | str,
    path: str | Path,
    *,
    head: Head | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """The variables of `model`, from a weight file.

    Args:
        model: from `create_model`, or its name (then with 1000 classes).
        path: a safetensors file, a `.pth`, `.pt` or `.bin` of `torch.save` (no
            pickle in it is executed), an `.npz`, the workdir or checkpoints of an
            rtj run, a folder with `model.safetensors`, `timm:NAME` or
            `torchvision:NAME`. The content decides, not the suffix.
        head: what to do with the classifier: see `rtj.weights.head`. None demands
            the model's class count, but takes class 0 off 1001-class heads.
        name: the model's name in the registry; found by its options if None.

    Returns:
        `{"params": ..., "batch_stats": ...}`, what `model.apply` takes, in the
        dtypes that `model.init` gives (float32).

    Raises:
        CheckpointError: the file is damaged, hostile or of another network, holds
            NaN or infinity, or its tensors do not fit: all missing, extra and
            mis-shaped ones in one message. Nothing is loaded.
        ConfigError: an unknown model, `head` or hub name, or a missing package.
    """
    heads_.check_head(head)
    if isinstance(model, str):
        name, model = name or model, create_model(model)
    like = variable_shapes(model)
    needed = sum(leaf.size * 4 for leaf in jax.tree.leaves(like))
    file = read_weights(path, max_bytes=min(MAX_BYTES, _ROOM * needed + _SMALL))
    return fit_weights(model, file, head=head, name=name)


def fit_weights(
    model: nn.Module,
    file: WeightFile,
    *,
    head: Head | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """`load_weights` for a file that has been read."""
    heads_.check_head(head)
    name = name or registry_name(model)
    _check_network(file, name, model)
    like = variable_shapes(model)
    expected = _expected(file, name, like)
    tensors = _tidy(file, expected)
    heads = {key: e for key, e in expected.items() if e.classes is not None}
    found, wanted = heads_.count_classes(tensors, heads), model.num_classes
    if head is None and heads_.has_background(found, wanted):
        tensors = heads_.drop_background(tensors, heads, file.source)
        found = wanted
    fits = found == wanted
    if head in ("reset", "drop") or not fits:
        blank = {key: np.zeros(e.shape, np.float32) for key, e in heads.items()}
        tensors = {**tensors, **blank}
    _check_finite(file, tensors)
    variables = _assign(file, name, tensors, expected, like)
    if head in (None, "keep") and not fits:
        raise heads_.count_error(file.source, found, wanted)
    flat = flatten_dict(variables, sep="/")
    if head == "reset":
        flat |= heads_.fresh_heads(model, model.native_size)
    if head == "drop":
        flat = {
            k: v for k, v in flat.items() if not heads_.is_head(tuple(k.split("/")))
        }
    return jax.tree.map(jnp.asarray, unflatten_dict(flat, sep="/"))


def file_classes(file: WeightFile, name: str) -> int | None:
    """How many classes the classifier in a file has; None without one.

    Args:
        name: the network's, in the registry.
    """
    expected = _expected(file, name, variable_shapes(create_model(name)))
    heads = {key: e for key, e in expected.items() if e.classes is not None}
    return heads_.count_classes(_tidy(file, expected), heads)


def variable_shapes(model: nn.Module) -> Any:
    """Shapes and dtypes of a model's variables; nothing is computed."""
    size = model.native_size
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(
        lambda key, x: model.init(key, x, train=False), jax.random.key(0), image
    )


def _check_network(file: WeightFile, name: str, model: nn.Module) -> None:
    """Refuse weights that say they are of another network; warn of other options."""
    about = parse(file.metadata, file.source)
    wanted = architecture(name)
    if about.architecture and about.architecture != wanted:
        raise CheckpointError(
            f"weights {file.source!r} are of the network {about.architecture!r} "
            f"(timm's name), the model {name!r} is {wanted!r} there"
        )
    other = [
        f"{key}={value!r}, not {getattr(model, key, None)!r}"
        for key, value in about.options.items()
        if value != getattr(model, key, None)
    ]
    if other:
        _log.warning("%s are of a network with %s", file.source, some(other))
    if not about.architecture and file.layout == "torch" and wanted == f"{name}a":
        _log.warning(
            "%s does not say where its bottlenecks stride: %s strides in the first "
            "1x1, timm's and torchvision's network of that name, %sb here, in the 3x3",
            file.source,
            name,
            name,
        )


def _expected(file: WeightFile, name: str, like: Any) -> dict[str, Expected]:
    """Every tensor that the file should hold, by the name it has there."""
    flat = flatten_dict(dict(like))
    if file.layout == "flax":
        return {
            "/".join(path): Expected(
                path, leaf.shape, -1 if heads_.is_head(path) else None
            )
            for path, leaf in flat.items()
        }
    return {
        entry.key: Expected(
            entry.path,
            tuple(flat[entry.path].shape[axis] for axis in _TORCH_AXES[entry.kind]),
            0 if heads_.is_head(entry.path) else None,
        )
        for entry in torch_names(name, like)
    }


def _tidy(file: WeightFile, expected: Mapping[str, Expected]) -> dict[str, np.ndarray]:
    """The file's tensors under their plain names, without what no model has."""
    if file.layout == "flax":
        return dict(file.tensors)
    plain = strip_prefix(list(file.tensors))
    tensors = {
        plain[name]: tensor
        for name, tensor in file.tensors.items()
        if not name.endswith("num_batches_tracked")
    }
    aux = [name for name in tensors if name.startswith(f"{_AUX}.")]
    if aux and not any(_AUX in entry.path for entry in expected.values()):
        _log.info("%s: its auxiliary head is left out", file.source)
        return {name: t for name, t in tensors.items() if name not in aux}
    return tensors


def _check_finite(file: WeightFile, tensors: Mapping[str, np.ndarray]) -> None:
    with np.errstate(over="ignore"):
        bad = [
            f"{name} ({count})"
            for name, tensor in tensors.items()
            if (count := int(np.sum(~np.isfinite(tensor.astype(np.float32)))))
        ]
    if bad:
        raise CheckpointError(
            f"weights {file.source!r} hold NaN or infinity (how many): {some(bad)}"
        )


def _assign(
    file: WeightFile,
    name: str,
    tensors: Mapping[str, np.ndarray],
    expected: Mapping[str, Expected],
    like: Any,
) -> Any:
    try:
        if file.layout == "torch":
            return from_torch(name, tensors, like)
        _check_names(name, tensors, expected)
    except CheckpointError as error:
        raise CheckpointError(f"weights {file.source!r}: {error}") from error
    flat = flatten_dict(dict(like))
    return unflatten_dict(
        {e.path: tensors[key].astype(flat[e.path].dtype) for key, e in expected.items()}
    )


def _check_names(
    name: str, tensors: Mapping[str, np.ndarray], expected: Mapping[str, Expected]
) -> None:
    faults = {
        "missing": [key for key in expected if key not in tensors],
        "extra": [key for key in tensors if key not in expected],
        "mis-shaped": [
            f"{key} {tensors[key].shape}, not {e.shape}"
            for key, e in expected.items()
            if key in tensors and tensors[key].shape != e.shape
        ],
    }
    text = "; ".join(
        f"{len(keys)} {what}: {', '.join(keys)}"
        for what, keys in faults.items()
        if keys
    )
    if text:
        raise CheckpointError(f"the tensors do not fit {name}: {text}")
