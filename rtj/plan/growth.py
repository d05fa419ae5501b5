"""How a step grows: every batch on every slice, from one compilation an image count.

What a chip computes and moves depends on its own images only, as long as batch norm's
groups lie inside a chip, and what it exchanges on the parameters only. So a program is
compiled for the given slice at 1, 2, 4, ... images a chip until one does not fit, and
its exchanges are put on other slices by their links and sizes. Groups larger than a
chip's images are cut to them, as on as many GPUs; several groups of a chip go one after
another, as micro-batches.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ml_collections import ConfigDict

from rtj.config import set_field
from rtj.plan.aot import TooLarge
from rtj.plan.chips import Topology, scaling_slices
from rtj.plan.collectives import Collective, find_collectives
from rtj.plan.hlo import parse
from rtj.plan.planning import (
    LEAST_MICRO_BATCH,
    Compile,
    precision_passes,
    with_batch,
)
from rtj.plan.roofline import roofline
from rtj.plan.traffic import hbm_traffic

BATCHES = tuple(2**power for power in range(8, 16))  # 256 to 32,768
# Gradients come with the backward pass, two thirds of a step's arithmetic; an exchange
# that takes longer cannot hide behind it, however it is scheduled.
BACKWARD_SHARE = 2 / 3


@dataclass(frozen=True)
class Share:
    """What a chip does in a step with so many images."""

    images: int
    micro_batches: int
    flops: float
    hbm_bytes: int
    collectives: tuple[Collective, ...]


def plan_growth(
    config: ConfigDict, first: Topology, compiler: Compile
) -> list[dict[str, Any]]:
    """One dict for each batch of `BATCHES` and slice of 8 to 256 chips.

    Returns:
        `topology`, `chips`, `batch`, `per_chip_batch`, `fits`; where it fits also
        `step_s` with the exchanges after everything else, as compiled,
        `images_per_s`, `chip_s` (arithmetic and memory alone), `network_s`,
        `collective_bytes` (buffers), and `hides`: whether the exchanges are shorter
        than the backward pass (of the last micro-batch).
    """
    shares = compile_shares(config, first, compiler)
    return [
        _cell(config, slice_, batch, shares)
        for slice_ in scaling_slices(first.chip)
        for batch in BATCHES
        if batch >= slice_.chips
    ]


def compile_shares(
    config: ConfigDict, first: Topology, compiler: Compile
) -> dict[int, Share]:
    """By images a chip: 1, 2, 4, ... as far as memory and the largest batch go."""
    shares: dict[int, Share] = {}
    images = 1
    while images <= BATCHES[-1] // scaling_slices(first.chip)[0].chips:
        shared = with_images(config, images, first.chips)
        found = compiler(shared, first)
        if isinstance(found, TooLarge):
            break
        module = parse(found.text)
        exchanged = tuple(find_collectives(module, first.chips))
        moved = hbm_traffic(module)
        micro_batches = shared.train.accumulate
        shares[images] = Share(images, micro_batches, found.flops, moved, exchanged)
        images *= 2
    return shares


def with_images(config: ConfigDict, images: int, chips: int) -> ConfigDict:
    """The config with so many images a chip and groups that lie inside a chip.

    A micro-batch is a group, or several that make `LEAST_MICRO_BATCH` images.
    """
    changed = config.copy_and_resolve_references()
    group = min(config.model.bn_group_size or images, images)
    beside = max(1, min(LEAST_MICRO_BATCH, images) // group)
    set_field(changed, "train.accumulate", images // (group * beside))
    set_field(changed, "model.bn_group_size", group)
    return with_batch(changed, images * chips)


def _cell(
    config: ConfigDict, slice_: Topology, batch: int, shares: dict[int, Share]
) -> dict[str, Any]:
    images = batch // slice_.chips
    about = {
        "topology": slice_.name,
        "chips": slice_.chips,
        "batch": batch,
        "per_chip_batch": images,
        "fits": images in shares,
    }
    if images not in shares:
        return about
    share = shares[images]
    limits = roofline(
        slice_,
        flops=share.flops,
        hbm_bytes=share.hbm_bytes,
        collectives=[replace(c, group=slice_.chips) for c in share.collectives],
        passes=precision_passes(config),
    )
    chip_s = max(limits.compute_s, limits.memory_s)
    return about | {
        "step_s": limits.step_s,
        "images_per_s": batch / limits.step_s,
        "chip_s": chip_s,
        "network_s": limits.network_s,
        "collective_bytes": sum(c.times * c.bytes for c in share.collectives),
        "hides": limits.network_s <= BACKWARD_SHARE * chip_s / share.micro_batches,
    }


def least_hidden(cells: Iterable[dict[str, Any]]) -> dict[str, int | None]:
    """By slice, the smallest batch whose exchanges hide; None if no batch's do."""
    least: dict[str, int | None] = {}
    for cell in cells:
        before = least.setdefault(cell["topology"], None)
        if before is None and cell.get("hides"):
            least[cell["topology"]] = cell["batch"]
    return least
