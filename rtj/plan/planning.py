"""Plans: what one step of a config needs and how fast it can be on a slice."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from rtj.config import check, set_field
from rtj.errors import ConfigError
from rtj.plan.aot import Compiled, TooLarge, compile_step, data_size
from rtj.plan.chips import Topology, scaling_slices
from rtj.plan.collectives import by_kind, find_collectives
from rtj.plan.hlo import parse
from rtj.plan.roofline import roofline
from rtj.plan.traffic import by_phase, largest, moves
from rtj.tricks.low_precision import POLICIES

Compile = Callable[[ConfigDict, Topology], Compiled | TooLarge]
# Of ResNet-50 a v5e takes the fewest milliseconds an image at 32 of them.
LEAST_MICRO_BATCH = 32


@dataclass(frozen=True)
class Plan:
    """One step on one slice; sizes are of one chip and step, None if it does not fit.

    Attributes:
        fits: whether the compiler found memory for it.
        hbm_bytes: what a chip has. The compiler grants 1 to 2 % less.
        memory_bytes: what the program needs; if it does not fit, what the compiler
            said it needs at least.
        temp_bytes: its temporaries.
        flops: by XLA, a multiply-add being two.
        bytes_accessed: read from and written to HBM.
        traffic: that by phase and kind, `{"forward convolution": {"count", "bytes"}}`.
        largest_moves: the instructions that move most, `{"bytes", "phase", "kind",
            "source"}` each.
        all_reduces: how many.
        collective_bytes: buffers of all exchanges between chips.
        step_s: bound from below, in seconds; see `rtj.plan.roofline`.
        bound: `compute`, `memory` or `network`.
        images_per_s, epoch_s: of the slice, from `step_s`.
        max_batch: the largest power of two that fits, if it was searched.
        collectives: `{kind: {"count", "bytes"}}`.
        compute_s, memory_s, network_s: each alone.
        passes: bf16 products that make one product of this precision.
        compile_s: seconds that compiling took here.
        scaling: one entry a slice, if it was asked for.
        growth: see `rtj.plan.growth.plan_growth`, if it was asked for.
    """

    fits: bool
    hbm_bytes: int
    memory_bytes: int | None
    config: str
    model: str
    precision: str
    topology: str
    chips: int
    batch: int
    per_chip_batch: int
    accumulate: int
    bn_group_size: int
    passes: int
    compile_s: float
    temp_bytes: int | None = None
    flops: float | None = None
    bytes_accessed: int | None = None
    traffic: dict[str, dict[str, int]] = field(default_factory=dict)
    largest_moves: list[dict[str, Any]] = field(default_factory=list)
    all_reduces: int | None = None
    collective_bytes: int | None = None
    step_s: float | None = None
    bound: str | None = None
    images_per_s: float | None = None
    epoch_s: float | None = None
    max_batch: int | None = None
    collectives: dict[str, dict[str, int]] = field(default_factory=dict)
    compute_s: float | None = None
    memory_s: float | None = None
    network_s: float | None = None
    scaling: list[dict[str, Any]] | None = None
    growth: list[dict[str, Any]] | None = None


def make_plan(
    config: ConfigDict, topology: Topology, compiler: Compile = compile_step
) -> Plan:
    """Compile the step of a checked config for a slice and read what it needs."""
    found = compiler(config, topology)
    about: dict[str, Any] = {
        "hbm_bytes": topology.chip.hbm_bytes,
        "config": config.name,
        "model": config.model.name,
        "precision": config.tricks.precision,
        "topology": topology.name,
        "chips": topology.chips,
        "batch": config.train.batch_size,
        "per_chip_batch": config.train.batch_size // topology.chips,
        "accumulate": config.train.accumulate,
        "bn_group_size": config.model.bn_group_size,
        "passes": precision_passes(config),
        "compile_s": found.seconds,
    }
    if isinstance(found, TooLarge):
        return Plan(fits=False, memory_bytes=found.needed_bytes, **about)
    return Plan(fits=True, **about, **_needs(config, topology, found))


def _needs(config: ConfigDict, topology: Topology, found: Compiled) -> dict[str, Any]:
    """What a program that fits needs, and how fast it can be."""
    module, batch = parse(found.text), config.train.batch_size
    collectives = find_collectives(module, topology.chips)
    kinds = by_kind(collectives)
    found_moves = list(moves(module))
    moved = sum(move.bytes for move in found_moves)
    limits = roofline(
        topology,
        flops=found.flops,
        hbm_bytes=moved,
        collectives=collectives,
        passes=precision_passes(config),
    )
    return {
        "memory_bytes": found.memory_bytes,
        "temp_bytes": found.temp_bytes,
        "flops": found.flops,
        "bytes_accessed": moved,
        "traffic": by_phase(found_moves),
        "largest_moves": largest(found_moves),
        "all_reduces": kinds.get("all-reduce", {}).get("count", 0),
        "collective_bytes": sum(row["bytes"] for row in kinds.values()),
        "images_per_s": batch / limits.step_s,
        "epoch_s": data_size(config)[1] / batch * limits.step_s,
        "collectives": kinds,
        **vars(limits),
    }


def precision_passes(config: ConfigDict) -> int:
    """TPUs multiply bf16; jax.lax.Precision.HIGHEST makes float32 of 6 passes."""
    full = POLICIES[config.tricks.precision].matmul_precision == "float32"
    return 6 if full else 1


def with_batch(config: ConfigDict, batch: int) -> ConfigDict:
    """The config at another batch, checked; batch-norm groups keep their size."""
    changed = copy.deepcopy(config)
    set_field(changed, "train.batch_size", batch)
    check(changed)
    return changed


def find_max_batch(
    config: ConfigDict,
    topology: Topology,
    first: Plan,
    compiler: Compile = compile_step,
) -> int | None:
    """The largest global batch that is a power of two and fits; None if none does.

    Temporaries grow with the batch, so `first` says where to look: mostly two more
    compilations settle it.

    Raises:
        ConfigError: chips, micro-batches and groups divide no power of two.
    """
    least = _least_batch(config, topology)

    def fits(batch: int) -> bool:
        if batch == first.batch:
            return first.fits
        return not isinstance(compiler(with_batch(config, batch), topology), TooLarge)

    batch = max(least, _guess(first))
    if fits(batch):
        while fits(2 * batch):
            batch *= 2
        return batch
    while batch > least:
        batch //= 2
        if fits(batch):
            return batch
    return None


def plan_scaling(
    config: ConfigDict,
    topology: Topology,
    first: Plan,
    compiler: Compile = compile_step,
) -> list[dict[str, Any]]:
    """The same images a chip on 8 to 256 chips, every program compiled.

    `efficiency` is images/s of a chip over those of the first slice that fits; it can
    pass 1 where the axes of a larger slice close to rings.
    """
    rows: list[dict[str, Any]] = []
    base = None
    for size in scaling_slices(topology.chip):
        if size == topology:
            plan = first
        else:
            batch = first.per_chip_batch * size.chips
            plan = make_plan(with_batch(config, batch), size, compiler)
        rate = plan.images_per_s and plan.images_per_s / plan.chips
        base = base or rate
        keys = ("topology", "chips", "batch", "fits", "all_reduces", "step_s")
        row = {key: getattr(plan, key) for key in (*keys, "images_per_s", "bound")}
        rows.append(row | {"efficiency": rate and base and rate / base})
    return rows


def _least_batch(config: ConfigDict, topology: Topology) -> int:
    micro, group = config.train.accumulate, config.model.bn_group_size
    parts = {
        "the chips": topology.chips,
        "train.accumulate": micro,
        "model.bn_group_size": group or 1,
    }
    for name, size in parts.items():
        if size & (size - 1):
            raise ConfigError(
                f"--search goes through powers of two, which {name}={size} does not "
                "divide; allowed: a power of two"
            )
    return micro * max(topology.chips, group or 1)


def _guess(first: Plan) -> int:
    """The power of two that should just fit, temporaries being all that grows."""
    if first.memory_bytes is None:
        return first.batch // 2
    grows = first.temp_bytes or first.memory_bytes
    room = first.hbm_bytes - (first.memory_bytes - grows)
    most = max(1, int(first.batch * room / grows))
    return 1 << (most.bit_length() - 1)
