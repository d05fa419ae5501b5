"""Work on each image of a batch apart, without a word between devices."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, PartitionSpec


def per_image(
    function: Callable[..., Any], mesh: Mesh | None = None
) -> Callable[..., Any]:
    """`jax.vmap` of `function`, each device over its own rows of the batch.

    Left to the compiler, devices that share a loop (see `nms`) ask each other after
    every round whether all are done.

    Args:
        function: of any arrays; no gradient is asked of it.
        mesh: splits the leading axis, which must be a multiple of its devices. None
            if all is on one device, or the compiler may split as it likes.
    """
    batched = jax.vmap(function)
    if mesh is None:
        return batched
    rows = PartitionSpec("data")
    return jax.shard_map(
        batched, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False
    )
