"""What timm 1.0.31 and torchvision 0.29.1 compute, and the weights they used.

Each `tests/fixtures/parity/library.model.size.npz` holds float64 results of a
PyTorch network. Its weights follow a rule, so no test needs torch or a download.
For an entry `name` of the state dict with `shape` (both are in `shapes`), with
rs = RandomState(crc32(name) & 0x7FFFFFFF):

| entry | value |
|---|---|
| ends in `num_batches_tracked` | not set |
| ends in `running_var` | rs.uniform(0.5, 1.5, shape) |
| ends in `running_mean` | rs.normal(0, 0.1, shape) |
| two or more dimensions | rs.normal(0, sqrt(2 / prod(shape[1:])), shape), OIHW |
| one dimension, ends in `weight` | rs.uniform(0.5, 1.5, shape) |
| any other | rs.normal(0, 0.1, shape) |

The two images are RandomState(7).uniform(-2, 2, (2, size, size, 3)), the labels
1 and 2. Evaluation uses running statistics; training uses batch statistics,
dropout off, and the mean cross-entropy.

`torchvision.densenet_2332.64` is `torchvision.models.DenseNet(32, (2, 3, 3, 2), 64)`.

`timm.eval_logits.npz` holds evaluation logits (2, 10) alone, under the keys of
`VARIANTS` in `test_variants`: networks by the same rule with 10 classes, made with
`create_model(name, num_classes=10, output_stride=...)` of timm 1.0.31. What it has no
name for was put together from its parts: `identity` replaces each `AvgPool2dSame` by
`Identity` (gluon-cv's reading), `v1_bias` moves a plain ResNet's strides to `conv1`
and adds biases to `conv1` and `conv3` (gluon-cv's v1), `seresnet26d` is a 26d with
`attn_layer="se"`, `same` is MobileNet with `pad_type="same", bn_eps=1e-3`.
"""

import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parents[1] / "fixtures" / "parity"
LABELS = np.array([1, 2])
# Compiler options that halve the compile time, for programs that run once.
QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}


@dataclass(frozen=True)
class Reference:
    """One file. `grad_norms` and `running_norms_after` map a name to an L2 norm."""

    size: int
    shapes: dict[str, tuple[int, ...]]
    eval_logits: np.ndarray
    train_logits: np.ndarray
    train_loss: float
    grad_norms: dict[str, float]
    running_norms_after: dict[str, float]
    aux_train_logits: np.ndarray | None


def read(name: str) -> Reference:
    with np.load(FOLDER / f"{name}.npz") as file:
        shapes = json.loads(str(file["shapes"]))
        return Reference(
            size=int(file["size"]),
            shapes={key: tuple(shape) for key, shape in shapes.items()},
            eval_logits=file["eval_logits"],
            train_logits=file["train_logits"],
            train_loss=float(file["train_loss"]),
            grad_norms=json.loads(str(file["grad_norms"])),
            running_norms_after=json.loads(str(file["running_norms_after"])),
            aux_train_logits=file.get("aux_train_logits"),
        )


def state_dict(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The rule's float64 weights for the entries of a PyTorch state dict."""
    return {
        name: _values(name, shape)
        for name, shape in shapes.items()
        if not name.endswith("num_batches_tracked")
    }


def images(size: int) -> np.ndarray:
    return np.random.RandomState(7).uniform(-2, 2, (2, size, size, 3))


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rs: Any = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    if name.endswith("running_var"):
        return rs.uniform(0.5, 1.5, shape)
    if name.endswith("running_mean"):
        return rs.normal(0, 0.1, shape)
    if len(shape) > 1:
        return rs.normal(0, math.sqrt(2 / math.prod(shape[1:])), shape)
    if name.endswith("weight"):
        return rs.uniform(0.5, 1.5, shape)
    return rs.normal(0, 0.1, shape)
