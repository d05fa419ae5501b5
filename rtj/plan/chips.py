"""TPU chips, the slices they come in, and the links between them.

Per chip, from the pages https://cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e:

| chip | HBM | bf16 FLOP/s | HBM bytes/s | links | bytes/s a link, one way |
|---|---|---|---|---|---|
| v4 | 32 GiB | 275e12 | 1200e9 | 6 | 50e9 |
| v5e | 16 GiB | 197e12 | 819e9 | 4 | 50e9 |
| v5p | 95 GiB | 459e12 | 2765e9 | 6 | 100e9 |
| v6e | 32 GiB | 918e12 | 1638e9 | 4 | 100e9 |

The pages give the links of v5e, v5p and v6e together and both ways: 400, 1200 and
800 GB/s a chip; the pods' all-reduce bandwidths there (51.2 TB/s of 256 v5e, 102.4 of
256 v6e) are half of that a chip, one way. v4's 50 GB/s a link are table 4 of Jouppi et
al. 2023 (arXiv 2304.01433).

v4 and v5p chips have two cores that run as one device ("megacore").

Slices: the same pages, and https://cloud.google.com/tpu/docs/types-topologies for v4:
AxBxC with A <= B <= C, multiples of 4 from 4x4x4 on.
"""

import itertools
import math
import re
from dataclasses import dataclass

from rtj.errors import ConfigError, unknown

_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_SOLID = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")
_GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One kind of chip.

    Attributes:
        name: as in a topology's name.
        hbm_bytes: high-bandwidth memory.
        flops: peak FLOP/s in bf16.
        hbm_bandwidth: bytes/s.
        link_bandwidth: bytes/s of one link in one direction.
        axes: of the torus, 2 or 3, so a chip has twice as many links.
        max_chips: of one slice.
    """

    name: str
    hbm_bytes: int
    flops: float
    hbm_bandwidth: float
    link_bandwidth: float
    axes: int
    max_chips: int


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", 32 * _GIB, 275e12, 1200e9, 50e9, 3, 4096),
        Chip("v5e", 16 * _GIB, 197e12, 819e9, 50e9, 2, 256),
        Chip("v5p", 95 * _GIB, 459e12, 2765e9, 100e9, 3, 6144),
        Chip("v6e", 32 * _GIB, 918e12, 1638e9, 100e9, 2, 256),
    )
}


@dataclass(frozen=True)
class Topology:
    """A slice: chips of one kind in a grid of `shape`."""

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """`v5e:16x16`."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    @property
    def links(self) -> int:
        """Links of the chip that has fewest: a corner, where an axis is no ring.

        An axis is a ring at 16 chips of v5e and v6e, and on v4 and v5p in slices of
        whole 4x4x4 cubes. Two chips on an axis share one link.
        """
        if self.chip.axes == 2:
            rings = [size == 16 for size in self.shape]
        else:
            whole = all(size % 4 == 0 for size in self.shape)
            rings = [whole] * len(self.shape)
        pairs = zip(self.shape, rings, strict=True)
        return sum(2 if ring else min(size - 1, 1) for size, ring in pairs)

    @property
    def ici_bandwidth(self) -> float:
        """Bytes/s that every chip can send, over all its links."""
        return self.links * self.chip.link_bandwidth


def parse_topology(text: str) -> Topology:
    """The slice of `NAME:AxB` or `NAME:AxBxC`.

    Raises:
        ConfigError: no such chip, or none of its slices has this shape.
    """
    name, _, grid = text.partition(":")
    if name not in CHIPS:
        raise unknown("--topology: chip", name, CHIPS)
    chip = CHIPS[name]
    shapes = slices(chip)
    if re.fullmatch(r"\d+(x\d+)+", grid):
        shape = tuple(map(int, grid.split("x")))
        if shape in shapes:
            return Topology(chip, shape)
    raise ConfigError(
        f"--topology={text}: {name} has no slice {grid!r}; {_allowed(chip)}"
    )


def slices(chip: Chip) -> list[tuple[int, ...]]:
    """The shapes that a chip's slices come in, by number of chips."""
    if chip.axes == 2:
        return [_shape(text) for text in _FLAT]
    sides = range(4, chip.max_chips // 16 + 1, 4)
    cubes = [
        shape
        for shape in itertools.combinations_with_replacement(sides, 3)
        if math.prod(shape) <= chip.max_chips
    ]
    return [_shape(text) for text in _SOLID] + sorted(cubes, key=math.prod)


def scaling_slices(chip: Chip) -> list[Topology]:
    """The most cubic slice of 8, 16, ..., 256 chips."""
    counts = [2**power for power in range(3, 9)]
    best = {
        count: [s for s in slices(chip) if math.prod(s) == count] for count in counts
    }
    return [Topology(chip, min(best[count], key=max)) for count in counts]


def _shape(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x")))


def _allowed(chip: Chip) -> str:
    if chip.axes == 2:
        return f"allowed: {', '.join(_FLAT)}"
    return (
        f"allowed: {', '.join(_SOLID)}, or AxBxC of multiples of 4 with A <= B <= C "
        f"and at most {chip.max_chips} chips"
    )
