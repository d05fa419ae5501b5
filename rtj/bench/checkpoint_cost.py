"""What a checkpoint costs: how long training stands still, beside Orbax alone."""

import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp

from rtj.checkpoint import Checkpointer, restore_newest
from rtj.checkpoint.leaves import as_tree
from rtj.models import create_model
from rtj.state import TrainState, fresh_state

_IMAGENET = 1_281_167
# Eight V100, mixed precision: what Flax's ImageNet example publishes.
IMAGES_PER_S = 8_270


def measure(
    folder: Path, *, network: str, saves: int, images_per_s: float
) -> dict[str, Any]:
    """Saves the train state of `network` so many times each way, by turns.

    Returns:
        Medians, seconds: `stall_s` and `orbax_stall_s`, how long a save keeps training
        waiting, with checksums and by Orbax alone; `whole_s` and `orbax_whole_s`, until
        it is on disk; `restore_s` and `orbax_restore_s`. `ratio`, the stalls' quotient.
        `share`: of an epoch of ImageNet at `images_per_s` that one save stalls. `bytes`
        of the state's arrays, `disk_bytes` of the files.
    """
    state = _state(network)
    ours, theirs = folder / "rtj", folder / "orbax"
    times: dict[str, list[float]] = {}

    def timed(name: str, action: Callable[[], Any]) -> None:
        begun = time.perf_counter()
        action()
        times.setdefault(name, []).append(time.perf_counter() - begun)

    with Checkpointer(ours) as checkpoints, ocp.StandardCheckpointer() as plain:
        for number in range(1, saves + 1):
            state = state.replace(step=jnp.int32(number))
            _save(timed, "", partial(checkpoints.save, state), checkpoints.wait)
            path = theirs / str(number)
            save = partial(plain.save, path.absolute(), as_tree(state))
            _save(timed, "orbax_", save, plain.wait_until_finished)
            timed("restore_s", partial(restore_newest, ours, state))
            timed("orbax_restore_s", partial(_restore, plain, path.absolute(), state))
            disk_bytes = sum(p.stat().st_size for p in (ours / str(number)).rglob("*"))
            shutil.rmtree(path)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "network": network,
        **medians,
        "ratio": medians["stall_s"] / medians["orbax_stall_s"],
        "share": medians["stall_s"] * images_per_s / _IMAGENET,
        "images_per_s": images_per_s,
        "bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
        "disk_bytes": disk_bytes,
    }


def _save(
    timed: Callable[..., None],
    prefix: str,
    save: Callable[[], Any],
    wait: Callable[[], Any],
) -> None:
    def whole() -> None:
        timed(f"{prefix}stall_s", save)
        wait()

    timed(f"{prefix}whole_s", whole)


def _restore(plain: ocp.StandardCheckpointer, path: Path, state: TrainState) -> None:
    target = jax.tree.map(ocp.tree.to_shape_dtype_struct, as_tree(state))
    jax.block_until_ready(plain.restore(path, target))


def _state(network: str) -> TrainState:
    """Of the right shapes, with random numbers, which do not compress."""
    init = partial(
        fresh_state,
        model=create_model(network),
        optimizer=optax.sgd(0.1, momentum=0.9),
        image_size=224,
        loss_scale=None,
    )
    rng = np.random.default_rng(0)

    def random(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map(random, jax.eval_shape(init, jax.random.key(0)))


def describe(result: dict[str, Any]) -> str:
    """The result as a table."""
    rows = [("", "rtj", "Orbax alone")]
    for label, name in (
        ("training waits, s", "stall_s"),
        ("until on disk, s", "whole_s"),
        ("restoring, s", "restore_s"),
    ):
        rows.append((label, f"{result[name]:.2f}", f"{result[f'orbax_{name}']:.2f}"))
    table = [f"{label:<20}{ours:>8}{theirs:>14}" for label, ours, theirs in rows]
    return "\n".join(
        [
            f"train state of {result['network']}: {result['bytes'] / 1e6:.0f} MB in "
            f"memory, {result['disk_bytes'] / 1e6:.0f} MB on disk",
            *table,
            f"one save is {result['share']:.2%} of an epoch of ImageNet at "
            f"{result['images_per_s']:,.0f} images/s",
        ]
    )
