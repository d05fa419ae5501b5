"""What a program exchanges and moves, read from programs written by hand."""

import pytest

from rtj.plan import collectives, hlo, traffic
from rtj.plan.collectives import Collective, find_collectives


def program(*lines, **others):
    """A module whose entry has `lines`, and other computations by name."""
    parts = [
        f"%{name} (p: f32[]) -> f32[] {{\n  {body}\n}}\n"
        for name, body in others.items()
    ]
    body = "\n  ".join(lines)
    return hlo.parse(
        "HloModule m\n\n"
        + "\n".join(parts)
        + f"\nENTRY %main (p: f32[]) -> f32[] {{\n  {body}\n}}\n"
    )


ALL = "replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add"


ADD = {"add": "ROOT %s = f32[] add(%x, %y)"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "%r = (f32[10]{0:T(128)S(1)}, /*index=1*/bf16[4,5]) all-reduce(%a, %b), "
            + ALL,
            Collective("all-reduce", 80, 8, 1, overlaps=False),
        ),
        (
            f"%r = f32[10] all-reduce-start(%a), {ALL}",
            Collective("all-reduce", 40, 8, 1, overlaps=True),
        ),
        (
            "%r = (f32[2,10], f32[8,10]) all-gather-start(%a), "
            "replica_groups=[2,4]<=[8]",
            Collective("all-gather", 320, 4, 1, overlaps=True),
        ),
        (
            f"%r = u8[100] reduce-scatter(%a), {ALL}",
            Collective("reduce-scatter", 800, 8, 1, overlaps=False),
        ),
        (
            "%r = s32[6] all-to-all(%a), replica_groups={}",
            Collective("all-to-all", 24, 8, 1, overlaps=False),
        ),
        (
            "%r = (f32[3], f32[3]) collective-permute-start(%a), "
            "source_target_pairs={{0,1},{1,0}}",
            Collective("collective-permute", 12, 2, 1, overlaps=True),
        ),
    ],
)
def test_every_kind_of_exchange_is_read(line, expected):
    assert find_collectives(program(line, **ADD), 8) == [expected]


def test_a_start_and_its_done_are_one_exchange():
    module = program(
        f"%s = f32[4] all-reduce-start(%a), {ALL}",
        "%d = f32[4] all-reduce-done(%s)",
        "%t = ((f32[8]), f32[1], u32[]) async-start(%d), calls=%wrapped",
        "%u = f32[1] async-done(%t), calls=%wrapped",
        wrapped=f"ROOT %w = f32[1] reduce-scatter(%p), {ALL}",
        **ADD,
    )
    kinds = collectives.by_kind(find_collectives(module, 8))
    assert kinds == {
        "all-reduce": {"count": 1, "bytes": 16},
        "reduce-scatter": {"count": 1, "bytes": 32},
    }


def test_an_all_reduce_that_a_tpu_fuses_with_a_slice_is_a_reduce_scatter():
    module = program(
        "%f = f32[1,4]{1,0:T(8,128)S(1)} fusion(%g), kind=kCustom, "
        "calls=%all-reduce-scatter.1",
        f"%h = f32[2] all-reduce(%g), {ALL}",
        **{"all-reduce-scatter.1": f"%r = f32[8,4] all-reduce(%input), {ALL}"},
        **ADD,
    )
    assert collectives.by_kind(find_collectives(module, 8)) == {
        "reduce-scatter": {"count": 1, "bytes": 128},
        "all-reduce": {"count": 1, "bytes": 8},
    }


@pytest.mark.parametrize(
    ("condition", "attribute"),
    [
        ("ROOT %c = pred[] constant(true)", '{"known_trip_count":{"n":"5"}}'),
        (
            "%n = s32[]{:T(128)} constant(5)\n"
            "  ROOT %c = pred[] compare(%i, %n), direction=LT",
            "{}",
        ),
    ],
)
def test_what_a_loop_does_counts_for_each_of_its_trips(condition, attribute):
    module = program(
        "%w = (f32[8]) while(%t), condition=%until, body=%body, "
        f"backend_config={attribute}",
        until=condition,
        body=f"%a = f32[8] negate(%p)\n  %r = f32[8] all-reduce(%a), {ALL}",
        **ADD,
    )
    (found,) = find_collectives(module, 8)
    assert (found.times, found.bytes) == (5, 32)
    assert found.sent_bytes == 5 * 2 * 32 * 7 / 8
    assert traffic.hbm_traffic(module) == 5 * (32 + 32 + 32)


def test_a_loop_of_unknown_length_is_an_error():
    module = program(
        "%w = f32[8] while(%t), condition=%until, body=%body",
        until="ROOT %c = pred[] compare(%i, %n), direction=GT",
        body="%a = f32[8] negate(%p)",
    )
    with pytest.raises(ValueError, match="loop w"):
        find_collectives(module, 8)


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1},{2,3},{4,5},{6,7}}", 2),
        ("[2,4]<=[8]", 4),
        ("[4,2]<=[2,4]T(1,0)", 2),
        ("{}", 8),
        ("mesh['x'=8] {'x'}", 8),
        ("mesh['x'=2,'y'=4] {'y'}", 4),
        ("mesh['x'=2,'y'=4] {'x','y'}", 8),
        ("mesh['x'=8] {'x':(1)4}", 4),
    ],
)
def test_the_size_of_a_replica_group_is_read(groups, size):
    found = collectives.group_size(f", channel_id=1, replica_groups={groups}, x=1", 8)
    assert found == size


def test_an_exchange_of_one_chip_with_itself_is_none():
    line = "%r = f32[4] all-reduce(%a), replica_groups={{0},{1}}, to_apply=%add"
    assert find_collectives(program(line, **ADD), 2) == []


def test_traffic_leaves_out_what_stays_on_the_chip():
    module = program(
        "%a = f32[100]{0:T(128)} parameter(0)",
        "%s = (f32[100]{0:S(1)}, f32[100]{0}, u32[]{:S(2)}) copy-start(%a)",  # 400
        "%b = f32[100]{0:S(1)} copy-done(%s)",
        "%c = bf16[100]{0:T(128)S(1)} fusion(%b), calls=%f",  # 0
        "%d = bf16[100]{0} fusion(%c, %a), calls=%f",  # 200 + 400
        "%t = ((f32[100]{0}), f32[10]{0:S(1)}, s32[]) slice-start(%a)",  # 40
        "%e = f32[10]{0} dynamic-slice(%a, %i)",  # 40 + 40
        "ROOT %o = (bf16[100]{0}) tuple(%d)",
        f="%x = f32[100] negate(%p)",
    )
    assert traffic.hbm_traffic(module) == 400 + 600 + 40 + 80


def test_traffic_is_told_by_phase_and_kind_the_largest_first():
    def named(source):
        return f', metadata={{op_name="jit(step)/{source}"}}'

    module = program(
        "%a = f32[100] parameter(0)",
        "%b = f32[100] fusion(%a), calls=%conv" + named("jvp(Net)/conv"),  # 800
        "%c = f32[1] fusion(%b), calls=%sum" + named("transpose(jvp(Net))/bn"),  # 404
        "%d = f32[50] select-and-scatter(%b)" + named("transpose(jvp(Net))/p"),  # 600
        "%e = f32[100] copy(%b)",  # 800
        "%f = f32[100] add(%b, %e)" + named("add"),  # 1200
        f"%g = f32[1] all-reduce(%c), {ALL}" + named("transpose(jvp(Net))/bn"),  # 8
        conv="%x = f32[100] convolution(%p, %p)",
        sum="%x = f32[1] fusion(%p), calls=%inner",
        inner="%x = f32[1] reduce(%p)",
        **ADD,
    )
    found = list(traffic.moves(module))
    table = traffic.by_phase(found)
    assert {name: row["bytes"] for name, row in table.items()} == {
        "rest elementwise": 1200,
        "forward convolution": 800,
        "rest copy": 800,
        "backward pool": 600,
        "backward reduction": 404,
        "backward exchange": 8,
    }
    assert next(iter(table)) == "rest elementwise"
    first, second = traffic.largest(found, 2)
    assert (first["bytes"], first["source"]) == (1200, "jit(step)/add")
    assert second["bytes"] == 800
