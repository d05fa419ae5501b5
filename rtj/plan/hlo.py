"""Reads the text of a compiled HLO module: computations, shapes, memory spaces."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\(")
_ARRAY = re.compile(r"\b(pred|bf16|[a-z]\d+\w*)\[([\d,]*)\](\{[^{}]*\})?")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|branch_computations)=(\{[^}]*\}|%?[\w.\-]+)"
)
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


@dataclass(frozen=True)
class Array:
    """One array of a shape: its bytes, and whether it lies outside HBM.

    TPU layouts name on-chip memory as `S(1)` and so on; without one it is HBM.
    """

    bytes: int
    on_chip: bool


@dataclass(frozen=True)
class Instruction:
    """One line: `%name = shape op(operands), attributes`."""

    name: str
    shape: str
    op: str
    operands: tuple[str, ...]
    attributes: str

    @property
    def called(self) -> list[str]:
        """The computations that it runs, a loop's condition not among them."""
        found = _CALLED.findall(self.attributes)
        return [name for text in found for name in re.findall(r"[\w.\-]+", text)]


@dataclass(frozen=True)
class Module:
    """A program: its computations by name, and the one that runs."""

    entry: str
    computations: dict[str, tuple[Instruction, ...]]


def parse(text: str) -> Module:
    """The module of `jax.stages.Compiled.as_text()`.

    Raises:
        ValueError: there is no ENTRY computation.
    """
    entry, name = "", ""
    computations: dict[str, list[Instruction]] = {}
    for line in text.splitlines():
        if header := _HEADER.match(line):
            name = header[2]
            entry = name if header[1] else entry
            computations[name] = []
        elif name and (match := _INSTRUCTION.match(line)):
            computations[name].append(_instruction(line, match))
    if not entry:
        raise ValueError("the text has no ENTRY computation")
    return Module(entry, {name: tuple(body) for name, body in computations.items()})


def arrays(shape: str) -> list[Array]:
    """The arrays of `f32[8,128]{1,0}` or of a tuple, in order; tokens are none."""
    return [
        Array(_bits(kind) * _count(dims) // 8, "S(" in layout)
        for kind, dims, layout in _ARRAY.findall(shape)
    ]


def total_bytes(shape: str) -> int:
    """Bytes of all arrays of a shape, wherever they lie."""
    return sum(array.bytes for array in arrays(shape))


def walk(module: Module) -> Iterator[tuple[Instruction, int]]:
    """Every instruction that runs and how often, fused ones after their fusion.

    A loop's body counts once for each of its trips, every branch of a conditional
    once. The end of an asynchronous operation is left out: its start stands for both.
    """

    def visit(name: str, times: int) -> Iterator[tuple[Instruction, int]]:
        for instruction in module.computations[name]:
            if re.search("-(done|update)$", instruction.op):
                continue
            yield instruction, times
            again = trip_count(instruction, module) if instruction.op == "while" else 1
            for called in instruction.called:
                yield from visit(called, times * again)

    yield from visit(module.entry, 1)


def trip_count(loop: Instruction, module: Module) -> int:
    """How often a `while` runs: said by XLA, or the bound of its `i < N`.

    Raises:
        ValueError: neither is there.
    """
    if said := _TRIPS.search(loop.attributes):
        return int(said[1])
    condition = re.search(r"condition=%?([\w.\-]+)", loop.attributes)
    body = module.computations[condition[1]] if condition else ()
    bounds = [
        int(i.attributes)
        for i in body
        if i.op == "constant" and i.attributes.isdecimal()
    ]
    if len(bounds) != 1 or not any("direction=LT" in i.attributes for i in body):
        raise ValueError(f"loop {loop.name}: its condition is not one of i < N")
    return bounds[0]


def _instruction(line: str, match: re.Match[str]) -> Instruction:
    name, shape, op = match.groups()
    depth, end = 1, match.end()
    while depth and end < len(line):
        depth += {"(": 1, ")": -1}.get(line[end], 0)
        end += 1
    inside = line[match.end() : end - 1]
    if op == "constant":
        return Instruction(name, shape, op, (), inside)
    operands = tuple(dict.fromkeys(re.findall(r"%([\w.\-]+)", inside)))
    return Instruction(name, shape, op, operands, line[end:])


def _bits(kind: str) -> int:
    if kind == "pred":
        return 8
    found = re.search(r"\d+", kind)
    return int(found[0]) if found else 0


def _count(dims: str) -> int:
    return math.prod(int(size) for size in dims.split(",") if size)
