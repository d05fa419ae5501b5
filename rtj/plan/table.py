"""Plans as tables to read."""

from collections.abc import Sequence
from typing import Any

from rtj.plan.chips import Topology
from rtj.plan.planning import LEAST_MICRO_BATCH, Plan

Row = tuple[str, ...]

CAVEAT = "What the compiled program needs, and a bound from it: not a measurement."


def describe(plan: Plan, topology: Topology, searched: bool = False) -> str:
    """One plan as a title and a row for each thing it needs."""
    title = (
        f"{plan.config}: {plan.model}, {plan.precision}, batch {plan.batch} on "
        f"{plan.topology} (chips: {plan.chips}, images each: {plan.per_chip_batch})"
    )
    rows = _needs(plan, topology) if plan.fits else [_memory(plan)]
    if searched:
        largest = str(plan.max_batch or "none")
        rows.append(("largest batch", largest, "of the powers of two that fit"))
    rows.append(("compiled in", f"{plan.compile_s:.0f} s", "on this machine"))
    return "\n".join([title, CAVEAT, "", *align(rows), *_notes(plan)])


def _needs(plan: Plan, topology: Topology) -> list[Row]:
    chip = topology.chip
    counts = [f"{row['count']} {kind}" for kind, row in plan.collectives.items()]
    compute, memory, network = (
        _milliseconds(value)
        for value in (plan.compute_s, plan.memory_s, plan.network_s)
    )
    passes = f", {plan.passes} passes" if plan.passes > 1 else ""
    return [
        _memory(plan),
        (
            "FLOPs a chip",
            f"{plan.flops:.3g}",
            f"{compute} at {chip.flops / 1e12:.0f} TFLOP/s of bf16{passes}",
        ),
        (
            "HBM traffic a chip",
            f"{_short((plan.bytes_accessed or 0) / 1e9)} GB",
            f"{memory} at {chip.hbm_bandwidth / 1e9:.0f} GB/s",
        ),
        (
            "exchanges",
            f"{_short((plan.collective_bytes or 0) / 1e6)} MB",
            f"{network} at {topology.ici_bandwidth / 1e9:.0f} GB/s: {', '.join(counts)}"
            if counts
            else "",
        ),
        ("step, at least", _milliseconds(plan.step_s), f"bound by {plan.bound}"),
        ("images/s, at most", f"{plan.images_per_s:,.0f}", ""),
        ("epoch, at least", f"{_short(plan.epoch_s or 0)} s", ""),
    ]


def _memory(plan: Plan) -> Row:
    room = f"of {_gib(plan.hbm_bytes)} a chip"
    if plan.fits:
        return ("fits", "yes", f"{_gib(plan.memory_bytes)} {room}")
    if plan.memory_bytes is None:
        return ("fits", "no", f"more than the {_gib(plan.hbm_bytes)} of a chip")
    return ("fits", "no", f"at least {_gib(plan.memory_bytes)} {room}")


def _notes(plan: Plan) -> list[str]:
    group = plan.bn_group_size or plan.batch
    own = plan.per_chip_batch // plan.accumulate
    if own % group == 0 and own // group > 1 and group >= LEAST_MICRO_BATCH:
        return [
            "",
            f"A chip has {own // group} batch-norm groups beside one another. With",
            f"train.accumulate={plan.accumulate * own // group} they go one after "
            "another: the same update from less",
            "memory and traffic.",
        ]
    if own % group == 0 or not plan.fits:
        return []
    return [
        "",
        f"Batch-norm groups of {group} lie on several chips, which adds all-reduces to",
        "every batch norm, each with a latency that the bound leaves out. With groups",
        f"that divide {own} there are at most 3, but that is another experiment.",
    ]


def describe_traffic(plan: Plan, count: int) -> str:
    """What moves a plan's bytes: by phase and kind, and the `count` largest alone."""
    whole = plan.bytes_accessed or 1
    table: list[Row] = [("HBM traffic", "GB", "share", "instructions")]
    for name, row in plan.traffic.items():
        share = f"{100 * row['bytes'] / whole:.1f} %"
        table.append((name, _short(row["bytes"] / 1e9), share, f"{row['count']}"))
    single: list[Row] = [("the largest", "MB", "")]
    for move in plan.largest_moves[:count]:
        what = f"{move['phase']} {move['kind']}"
        single.append((what, f"{move['bytes'] / 1e6:.0f}", move["source"]))
    return "\n".join([*align(table), "", *align(single)])


def describe_scaling(rows: list[dict[str, Any]]) -> str:
    """The table of `plan_scaling`."""
    table: list[Row] = [
        ("slice", "batch", "step, ms", "images/s", "a chip", "all-reduces")
    ]
    for row in rows:
        start = (row["topology"], f"{row['batch']}")
        if not row["fits"]:
            table.append((*start, "does not fit", "", "", ""))
            continue
        table.append(
            (
                *start,
                _short(1e3 * row["step_s"]),
                f"{row['images_per_s']:,.0f}",
                f"{100 * row['efficiency']:.1f} %",
                f"{row['all_reduces']}",
            )
        )
    return "\n".join(align(table))


def describe_comparison(first: Plan, second: Plan) -> str:
    """Two plans side by side, and the second over the first."""
    table: list[Row] = [("", first.config, second.config, "ratio")]
    for name, unit, scale in (
        ("memory_bytes", "GiB", 2**30),
        ("temp_bytes", "GiB", 2**30),
        ("flops", "TFLOP", 1e12),
        ("bytes_accessed", "GB", 1e9),
        ("all_reduces", "", 1),
        ("collective_bytes", "MB", 1e6),
        ("step_s", "ms", 1e-3),
        ("images_per_s", "", 1),
        ("max_batch", "", 1),
    ):
        a, b = getattr(first, name), getattr(second, name)
        cells = [
            "-" if value is None else f"{value / scale:,.5g} {unit}".strip()
            for value in (a, b)
        ]
        ratio = f"{b / a:.3f}" if a and b is not None else "-"
        table.append((name, *cells, ratio))
    table.append(("bound", first.bound or "-", second.bound or "-", ""))
    table.append(("fits", *(_yes(plan.fits) for plan in (first, second)), ""))
    return "\n".join(align(table))


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _milliseconds(seconds: float | None) -> str:
    return f"{_short(1e3 * (seconds or 0))} ms"


def _short(value: float) -> str:
    """Two decimals, or two digits where that would leave nothing."""
    return f"{value:,.2f}" if value >= 1 else f"{value:.2g}"


def _gib(size: int | None) -> str:
    return f"{(size or 0) / 2**30:.2f} GiB"


def align(rows: Sequence[Row]) -> list[str]:
    """Lines with the cells of each column under one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
