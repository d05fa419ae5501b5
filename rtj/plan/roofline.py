"""How fast a step can be at best: the roofline of Williams et al. 2009, and the links.

    compute_s = FLOPs / peak FLOP/s
    memory_s  = HBM bytes / HBM bandwidth
    network_s = bytes to send / (links of a chip x bandwidth of a link)
    step_s    = max(compute_s, memory_s, exchanges that overlap) + those that do not

Arithmetic and memory overlap within a chip, so the larger counts. The compiled step
has its gradient all-reduces as plain operations at its end, with nothing to run
beside them, so they are added; an exchange with a start and a done overlaps. What a
chip must send does not depend on the algorithm (`Collective.sent_bytes`).

This is a bound and no measurement: no unit reaches its peak, and latencies (about a
microsecond a hop, so many small exchanges cost more than their bytes), the host and
the input are not counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rtj.plan.chips import Topology
from rtj.plan.collectives import Collective


@dataclass(frozen=True)
class Roofline:
    """Seconds of a step.

    Attributes:
        compute_s, memory_s, network_s: each alone.
        step_s: together.
        bound: `compute`, `memory` or `network`, whichever is longest alone.
    """

    compute_s: float
    memory_s: float
    network_s: float
    step_s: float
    bound: str


def roofline(
    topology: Topology,
    *,
    flops: float,
    hbm_bytes: float,
    collectives: Iterable[Collective],
    passes: int = 1,
) -> Roofline:
    """The bound of a program, everything per chip and step.

    Args:
        flops: with a multiply-add as two.
        hbm_bytes: read from and written to HBM.
        collectives: from `find_collectives`.
        passes: bf16 products that make one product of the program: 1, or 6 for
            float32 at full precision (jax.lax.Precision.HIGHEST).
    """
    collectives = list(collectives)
    chip = topology.chip
    compute_s = passes * flops / chip.flops
    memory_s = hbm_bytes / chip.hbm_bandwidth
    overlapping = _sending([c for c in collectives if c.overlaps], topology)
    alone = _sending([c for c in collectives if not c.overlaps], topology)
    seconds = {
        "compute": compute_s,
        "memory": memory_s,
        "network": overlapping + alone,
    }
    return Roofline(
        compute_s=compute_s,
        memory_s=memory_s,
        network_s=seconds["network"],
        step_s=max(compute_s, memory_s, overlapping) + alone,
        bound=max(seconds, key=lambda name: seconds[name]),
    )


def _sending(collectives: list[Collective], topology: Topology) -> float:
    if not collectives:  # a single chip has none, and no links
        return 0.0
    return sum(c.sent_bytes for c in collectives) / topology.ici_bandwidth
