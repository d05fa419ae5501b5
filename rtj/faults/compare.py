"""Whether two workdirs hold the same run, bit for bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from rtj.checkpoint import restore_newest
from rtj.experiment import build
from rtj.metrics import read_metrics
from rtj.state import TrainState
from rtj.workdir import read_result

_SESSIONS_OWN = ("images_per_s", "workdir")


def differences(config: ConfigDict, one: Path, other: Path) -> list[str]:
    """What of two finished runs of `config` differs; [] if they are the same.

    Compared are every number of the newest state (parameters, running statistics,
    optimizer, loss scale, average), the history of metrics, the predictions of the last
    evaluation and the result, but for its speed and folder.
    """
    like = build(config).abstract_state()
    return [
        *_states(
            *(restore_newest(run / "checkpoints", like).state for run in (one, other))
        ),
        *_histories(*(read_metrics(run) for run in (one, other))),
        *_predictions(one, other),
        *_results(one, other),
    ]


def _states(one: TrainState, other: TrainState) -> Iterator[str]:
    leaves = jax.tree_util.tree_leaves_with_path(one)
    for (path, a), b in zip(leaves, jax.tree.leaves(other), strict=True):
        if np.asarray(a).tobytes() != np.asarray(b).tobytes():
            yield f"state{jax.tree_util.keystr(path)}"


def _histories(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> Iterator[str]:
    if len(one) != len(other):
        yield f"metrics: {len(one)} and {len(other)} lines"
    for a, b in zip(one, other, strict=False):
        if repr(a) != repr(b):  # NaN is like NaN
            yield f"metrics: {a} and {b}"
            return


def _predictions(one: Path, other: Path) -> Iterator[str]:
    with (
        np.load(one / "predictions.npz") as a,
        np.load(other / "predictions.npz") as b,
    ):
        for name in a.files:
            if not np.array_equal(a[name], b[name]):
                yield f"predictions: {name}"


def _results(one: Path, other: Path) -> Iterator[str]:
    a, b = (
        {k: v for k, v in (read_result(run) or {}).items() if k not in _SESSIONS_OWN}
        for run in (one, other)
    )
    if a != b:
        yield f"result: {a} and {b}"
