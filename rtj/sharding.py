"""The device mesh and the two shardings of data-parallel training."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rtj.errors import ConfigError


def make_mesh(devices: int = 0) -> Mesh:
    """A one-dimensional mesh named `data` over the first `devices` devices.

    0 takes all devices of all processes.
    """
    found = jax.devices()
    if devices > len(found):
        raise ConfigError(
            f"mesh.devices={devices}, but there are {len(found)}; allowed: 0 for "
            f"all, or 1 to {len(found)}"
        )
    chosen = np.array(found[: devices or len(found)])
    return Mesh(chosen, ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array: the train state."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over the devices: a batch."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch(batch_size: int, mesh: Mesh) -> None:
    """Raise ConfigError if the devices cannot share the batch evenly."""
    if batch_size % mesh.size:
        raise ConfigError(
            f"train.batch_size={batch_size} cannot be split over {mesh.size} devices; "
            f"allowed: a multiple of {mesh.size}, or another mesh.devices"
        )


def device_batches(
    batches: Iterator[Mapping[str, np.ndarray]], mesh: Mesh
) -> Iterator[dict[str, jax.Array]]:
    """Global arrays from each process's rows, one batch ahead of the consumer.

    The transfer of batch k + 1 is under way while the step on batch k runs.
    """
    sharding = split(mesh)

    def put(batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        return {
            key: jax.make_array_from_process_local_data(sharding, rows)
            for key, rows in batch.items()
        }

    ahead = None
    for batch in batches:
        current, ahead = ahead, put(batch)
        if current is not None:
            yield current
    if ahead is not None:
        yield ahead
