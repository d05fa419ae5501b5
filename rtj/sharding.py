"""The device mesh and the shardings of data-parallel training."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rtj.errors import ConfigError


def make_mesh(devices: int = 0) -> Mesh:
    """A one-dimensional mesh named `data` over the first `devices` of each process.

    0 takes all devices of all processes. See `in_mesh_order` for their order.
    """
    local = len(jax.local_devices())
    if devices > local:
        raise ConfigError(
            f"mesh.devices={devices}, but there are {local}; allowed: 0 for "
            f"all, or 1 to {local}"
        )
    chosen: list[jax.Device] = []
    for _, group in itertools.groupby(
        in_mesh_order(jax.devices()), lambda device: device.process_index
    ):
        chosen += list(group)[: devices or None]
    return Mesh(np.array(chosen), ("data",), axis_types=(AxisType.Auto,))


def in_mesh_order(devices: Iterable[jax.Device]) -> list[jax.Device]:
    """Those of one process side by side, and the processes of one TPU slice too.

    JAX numbers a pod's devices by where they are, which mixes processes. A process
    must hold adjacent rows of a batch, and an all-reduce should cross between slices,
    over the slower network, once.
    """
    return sorted(
        devices,
        key=lambda d: (getattr(d, "slice_index", None) or 0, d.process_index, d.id),
    )


def process_rows(mesh: Mesh) -> tuple[int, int]:
    """(k, n): the mesh takes a batch from n processes, this one gives the k-th part."""
    order = list(dict.fromkeys(d.process_index for d in mesh.devices.flat))
    return order.index(jax.process_index()), len(order)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device holds the whole array: the train state."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """The leading axis is split over the devices: a batch."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """NumPy arrays, the same in every process, whole on every device."""
    place = replicated(mesh)
    return jax.tree.map(
        lambda leaf: jax.make_array_from_callback(
            leaf.shape, place, lambda index: leaf[index]
        ),
        tree,
    )


def split_largest_axes(tree: Any, mesh: Mesh) -> Any:
    """A sharding for each leaf: its largest axis that divides by the devices is split.

    A leaf without one is replicated, and so are vectors: in ResNet-50 they are two
    thirds of the leaves, each an all-gather of its own, and 0.2 % of the bytes. For the
    optimizer's state (ZeRO, Rajbhandari et al. 2019, arXiv 1910.02054, stage 1): no
    device needs it whole.
    """

    def place(leaf: Any) -> NamedSharding:
        axes = [axis for axis, n in enumerate(leaf.shape) if n and n % mesh.size == 0]
        if not axes or len(leaf.shape) == 1:
            return replicated(mesh)
        axis = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "data"))

    return jax.tree.map(place, tree)


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
