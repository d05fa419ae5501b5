"""What the chips of a compiled program exchange, by kind."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from rtj.plan.hlo import Instruction, Module, total_bytes, walk

KINDS = (
    "all-reduce",
    "reduce-scatter",
    "all-gather",
    "all-to-all",
    "collective-permute",
)


@dataclass(frozen=True)
class Collective:
    """One exchange of a program.

    Attributes:
        kind: of `KINDS`.
        bytes: of a chip's whole buffer: the larger of what goes in and comes out.
        group: chips that take part together.
        times: how often it runs in a step.
        overlaps: whether other work may run meanwhile (it has a start and a done).
    """

    kind: str
    bytes: int
    group: int
    times: int
    overlaps: bool

    @property
    def sent_bytes(self) -> float:
        """What a chip must send in a step, whatever the algorithm.

        Of a buffer of V bytes on n chips: 2 V (n-1)/n in an all-reduce, V (n-1)/n in
        a reduce-scatter, all-gather or all-to-all, V in a permutation (Patarasuk and
        Yuan 2009; rings reach it).
        """
        if self.kind == "collective-permute":
            share = 1.0
        else:
            share = (self.group - 1) / self.group
        both_ways = 2 if self.kind == "all-reduce" else 1
        return self.times * both_ways * share * self.bytes


def find_collectives(module: Module, chips: int) -> list[Collective]:
    """Every exchange between chips, a start and its done being one.

    Exchanges within one chip, of groups of one, are none.
    """
    found = []
    fused = ""  # TPUs fuse a reduce-scatter out of an all-reduce and a slice
    for instruction, times in walk(module):
        if any(name.startswith("all-reduce-scatter") for name in instruction.called):
            fused = instruction.shape
        kind = re.sub("-start$", "", instruction.op)
        if kind not in KINDS:
            continue
        group = group_size(instruction.attributes, chips)
        kind = "reduce-scatter" if kind == "all-reduce" and fused else kind
        overlaps = instruction.op.endswith("-start")
        size = _buffer(instruction, kind, group, bool(fused))
        fused = ""
        if group > 1:
            found.append(Collective(kind, size, group, times, overlaps))
    return found


def by_kind(collectives: Iterable[Collective]) -> dict[str, dict[str, int]]:
    """`{kind: {"count": n, "bytes": b}}` a step, for the kinds that occur."""
    table: dict[str, dict[str, int]] = {}
    for one in collectives:
        row = table.setdefault(one.kind, {"count": 0, "bytes": 0})
        row["count"] += one.times
        row["bytes"] += one.times * one.bytes
    return table


def group_size(attributes: str, chips: int) -> int:
    """Chips of one replica group, in each of the four ways that XLA writes them.

    `{{0,1},{2,3}}`, `{}` for all, `[2,4]<=[8]` for 2 groups of 4, and
    `mesh['x'=2,'y'=4] {'y'}` for the groups along y.
    """
    if pairs := re.search(r"source_target_pairs=\{(.*?)\}\}", attributes):
        return 1 + pairs[1].count("},")
    if grid := re.search(r"replica_groups=\[([\d,]+)\]<=", attributes):
        return int(grid[1].split(",")[-1])
    if mesh := re.search(r"replica_groups=\S*?mesh\[(.*?)\] \{(.*?)\}", attributes):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
        axes = re.findall(r"'(\w+)'(?::\(\d+\)(\d+))?", mesh[2])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    if groups := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return groups[1].count(",") + 1
    return chips


def _buffer(instruction: Instruction, kind: str, group: int, fused: bool) -> int:
    size = total_bytes(instruction.shape)
    if kind == "reduce-scatter":
        return size if fused else size * group
    if instruction.op == "all-gather-start":  # its shape is (what went in, the result)
        return size * group // (group + 1)
    if instruction.op == "collective-permute-start":
        return size // 2
    return size
