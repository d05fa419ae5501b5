"""What a train step costs a TPU, by its compiler, beside the Flax example's step.

Nothing is run and nothing is timed, so the numbers are the same on every machine with
the same libtpu.
"""

from argparse import Namespace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rtj.bench import peer_flax
from rtj.config import check, set_field
from rtj.config_args import get_config
from rtj.errors import ConfigError
from rtj.models import list_models
from rtj.plan import aot
from rtj.plan.chips import Topology, parse_topology
from rtj.plan.collectives import by_kind, find_collectives
from rtj.plan.hlo import parse
from rtj.plan.table import align
from rtj.plan.traffic import by_phase, moves

_SIZE = 224
# What is set beside one another: rtj's ways, then the peer.
VARIANTS: dict[str, dict[str, Any]] = {
    "rtj": {},
    "rtj, usual batch norm": {"model.gram_norm": False},
    "rtj, recompute": {"model.recompute": True},
}
FLAX = "flax example"
_RATIOS = ("flops", "hbm_bytes", "xla_bytes", "temp_bytes")


def measure(topology: str, network: str, per_chip: int) -> dict[str, Any]:
    """Compiles each contestant for every chip of a slice.

    Returns:
        `contestants`: by name, of one chip and step: `flops`, `hbm_bytes` (what moves
        between chip and HBM, see `rtj.plan.traffic`), `xla_bytes` ("bytes accessed" of
        XLA's cost analysis, which counts on-chip memory too), `temp_bytes`,
        `all_reduces`, `traffic` by phase and kind. `ratios`: each way of rtj's by the
        Flax example's, which is there if it has the network.

    Raises:
        ConfigError: unknown topology, libtpu is not installed, or a step does not fit.
    """
    slice_ = parse_topology(topology)
    aot.prepare_host()
    contestants = {
        name: _cost(_ours(network, per_chip, slice_, changes), slice_)
        for name, changes in VARIANTS.items()
    }
    if network in peer_flax.STAGE_SIZES:
        contestants[FLAX] = _cost(_flax(network, per_chip, slice_), slice_)
    return {
        "topology": topology,
        "network": network,
        "per_chip_batch": per_chip,
        "contestants": contestants,
        "ratios": ratios(contestants),
    }


def ratios(contestants: dict[str, dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Each of rtj's by the Flax example's; nothing without it."""
    peer = contestants.get(FLAX)
    if peer is None:
        return {}
    return {
        name: {key: cost[key] / peer[key] for key in _RATIOS}
        for name, cost in contestants.items()
        if name != FLAX
    }


def _ours(
    network: str, per_chip: int, slice_: Topology, changes: dict[str, Any]
) -> aot.Compiled | aot.TooLarge:
    config = get_config("ablation:efficient,data=imagenet")
    everything = {
        "model.name": network,
        "model.bn_group_size": per_chip,
        "train.batch_size": per_chip * slice_.chips,
        **changes,
    }
    for field, value in everything.items():
        set_field(config, field, value)
    check(config)
    return aot.compile_step(config, slice_)


def _flax(network: str, per_chip: int, slice_: Topology) -> aot.Compiled | aot.TooLarge:
    """The example's step on a batch that all chips share: its pmap and `pmean`s."""
    mesh = aot.topology_mesh(slice_)
    batch = per_chip * slice_.chips
    model = peer_flax.ResNet(peer_flax.STAGE_SIZES[network], jnp.bfloat16)
    schedule = peer_flax.learning_rate(batch)

    def first(key: jax.Array) -> Any:
        variables = model.init(key, jnp.zeros((1, _SIZE, _SIZE, 3), jnp.bfloat16))
        return peer_flax.first_state(model, variables, schedule, scales_loss=False)

    state = _placed(jax.eval_shape(first, jax.random.key(0)), mesh, PartitionSpec())
    images = jax.ShapeDtypeStruct((batch, _SIZE, _SIZE, 3), jnp.bfloat16)
    labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
    arrays = {"image": images, "label": labels}
    shared = _placed(arrays, mesh, PartitionSpec("data"))
    step = partial(peer_flax.train_step, schedule=schedule)
    return aot.compile_lowered(jax.jit(step, donate_argnums=0).lower(state, shared))


def _placed(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
    )


def _cost(found: aot.Compiled | aot.TooLarge, slice_: Topology) -> dict[str, Any]:
    if isinstance(found, aot.TooLarge):
        raise ConfigError("the step does not fit into a chip; allowed: fewer --images")
    module = parse(found.text)
    moved = list(moves(module))
    kinds = by_kind(find_collectives(module, slice_.chips))
    return {
        "flops": found.flops,
        "hbm_bytes": sum(move.bytes for move in moved),
        "xla_bytes": found.xla_bytes,
        "temp_bytes": found.temp_bytes,
        "all_reduces": kinds.get("all-reduce", {}).get("count", 0),
        "traffic": by_phase(moved),
    }


def describe(result: dict[str, Any]) -> str:
    """A row each, and their ratios."""
    head = ("a chip and step", "TFLOP", "HBM, GB", "XLA's GB", "temporary, GB")
    rows: list[tuple[str, ...]] = [(*head, "all-reduces")]
    for name, cost in result["contestants"].items():
        sizes = (cost[key] / 1e9 for key in ("hbm_bytes", "xla_bytes", "temp_bytes"))
        cells = (f"{cost['flops'] / 1e12:.3f}", *(f"{size:.2f}" for size in sizes))
        rows.append((name, *cells, f"{cost['all_reduces']}"))
    for name, ratio in result["ratios"].items():
        cells = tuple(f"{ratio[key]:.3f}" for key in _RATIOS)
        rows.append((f"{name} / {FLAX}", *cells, ""))
    title = (
        f"{result['network']}, {result['per_chip_batch']} images a chip, "
        f"{result['topology']}, bf16"
    )
    return "\n".join([title, *align(rows)])


def add_part(parts: Any) -> None:
    """Adds the sub-command to those of `rtj.bench`."""
    part = parts.add_parser("compiled", help="what a step costs a TPU, by its compiler")
    part.add_argument("--json", action="store_true", help="JSON in the last line")
    part.add_argument("--topology", default="v5e:2x4", help="as of rtj.plan")
    part.add_argument("--network", default="resnet50b", choices=list_models("*resn*"))
    part.add_argument("--images", type=int, default=128, help="of a chip")


def run(arguments: Namespace) -> tuple[dict[str, Any], str]:
    """Compiles; the result and its table."""
    result = measure(arguments.topology, arguments.network, arguments.images)
    return result, describe(result)
