"""rtj.plan: slices, what a program exchanges and moves, the bound, and its errors.

The figures of chips are those of Google's pages (see rtj/plan/chips.py); programs are
written by hand, compiled for 8 virtual CPU devices, or, where libtpu is installed,
compiled for a v5e slice.
"""

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from rtj.config import set_field
from rtj.errors import ConfigError
from rtj.experiment import build_program
from rtj.models import model_summary
from rtj.plan import __main__ as command
from rtj.plan import aot, chips, collectives, hlo, planning, traffic
from rtj.plan.aot import Compiled, TooLarge
from rtj.plan.chips import CHIPS, parse_topology
from rtj.plan.collectives import Collective, find_collectives
from rtj.plan.roofline import roofline
from rtj.plan.table import describe, describe_comparison, describe_scaling
from rtj.sharding import make_mesh

ROOT = Path(__file__).resolve().parents[1]
PROMISED = (
    "fits hbm_bytes memory_bytes temp_bytes flops bytes_accessed all_reduces "
    "collective_bytes step_s bound images_per_s max_batch"
)


@pytest.mark.parametrize(
    ("text", "count", "links"),
    [
        ("v5e:1x1", 1, 0),
        ("v5e:2x4", 8, 2),
        ("v6e:8x16", 128, 3),
        ("v5e:16x16", 256, 4),
        ("v4:2x2x1", 4, 2),
        ("v4:2x4x4", 32, 3),
        ("v4:4x4x8", 128, 6),
        ("v5p:16x16x24", 6144, 6),
    ],
)
def test_a_topology_has_its_chips_and_a_corner_its_links(text, count, links):
    topology = parse_topology(text)
    assert (topology.name, topology.chips, topology.links) == (text, count, links)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("v7:2x2", ["'v7'", "v4", "v5e", "v5p", "v6e"]),
        ("", ["chip ''", "v5e"]),
        ("v5e", ["v5e has no slice ''", "2x4", "16x16"]),
        ("v5e:4x2", ["'4x2'", "2x4"]),
        ("v5e:2x4x1", ["'2x4x1'", "2x4"]),
        ("v4:4x4x6", ["'4x4x6'", "multiples of 4", "4096"]),
        ("v4:16x16x24", ["at most 4096 chips"]),
        ("v5p:8x4x4", ["A <= B <= C"]),
        ("v6e:0x0", ["'0x0'", "8x16"]),
    ],
)
def test_an_unknown_slice_is_refused_with_the_known_ones(text, parts):
    with pytest.raises(ConfigError) as error:
        parse_topology(text)
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("text", "both_ways"),
    [("v5e:16x16", 400e9), ("v6e:16x16", 800e9), ("v5p:4x4x4", 1200e9)],
)
def test_all_links_together_have_the_published_bandwidth(text, both_ways):
    assert 2 * parse_topology(text).ici_bandwidth == both_ways


def test_the_published_pods_have_the_published_all_reduce_bandwidth():
    for text, bandwidth in (("v5e:16x16", 51.2e12), ("v6e:16x16", 102.4e12)):
        pod = parse_topology(text)
        assert pod.chips * pod.ici_bandwidth == bandwidth


@pytest.mark.parametrize("name", CHIPS)
def test_scaling_goes_from_8_to_256_chips_in_slices_that_exist(name):
    sizes = chips.scaling_slices(CHIPS[name])
    assert [size.chips for size in sizes] == [8, 16, 32, 64, 128, 256]
    assert [parse_topology(size.name) for size in sizes] == sizes


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


def step_program(config):
    """(the config's program, its step lowered for 8 CPU devices)."""
    made = build_program(config, make_mesh(8), num_classes=10, examples=4000)
    return made, made.train_step.lower(*aot.abstract_inputs(made))


EIGHT = {"mesh.devices": 8, "train.batch_size": 64}


@pytest.mark.parametrize(
    ("group", "fewest", "most"), [(8, 1, 3), (0, 20, 60)], ids=["in a device", "whole"]
)
def test_batch_norm_groups_inside_a_device_leave_three_all_reduces(
    tiny_config, group, fewest, most
):
    _, lowered = step_program(tiny_config(**EIGHT, **{"model.bn_group_size": group}))
    found = find_collectives(hlo.parse(lowered.compile().as_text()), 8)
    kinds = collectives.by_kind(found)
    assert set(kinds) == {"all-reduce"}
    assert fewest <= kinds["all-reduce"]["count"] <= most


def test_the_step_has_three_times_the_flops_of_the_forward_pass(tiny_config):
    # Forward, and backward for inputs and for weights. XLA also counts what is no
    # product, leaves out products with padding and finds no gradient of the images:
    # each a few per cent.
    changes = {"model.width": 64, "model.small_images": False, "data.image_size": 224}
    config = tiny_config(**EIGHT, **changes, **{"data.eval_resize": 224})
    set_field(config, "model.name", "resnet50d")
    _, lowered = step_program(config)
    macs = model_summary("resnet50d", num_classes=10).macs
    analytic = 3 * 2 * macs * config.train.batch_size
    assert lowered.cost_analysis()["flops"] == pytest.approx(analytic, rel=0.05)


def test_the_roofline_is_the_longest_of_three_and_all_that_does_not_overlap():
    slice_ = parse_topology("v5e:2x4")  # 197e12 FLOP/s, 819e9 B/s, 2 links of 50e9 B/s
    alone = Collective("all-reduce", 80_000_000, 8, 1, overlaps=False)
    hidden = Collective("all-gather", 800_000_000, 8, 1, overlaps=True)
    sent = 2 * 80e6 * 7 / 8 / 100e9
    found = roofline(slice_, flops=197e9, hbm_bytes=4 * 819e6, collectives=[alone])
    assert found.compute_s == pytest.approx(1e-3)
    assert found.memory_s == pytest.approx(4e-3)
    assert found.network_s == pytest.approx(sent)
    assert found.step_s == pytest.approx(4e-3 + sent)
    assert found.bound == "memory"
    found = roofline(
        slice_, flops=197e9, hbm_bytes=4 * 819e6, collectives=[alone, hidden]
    )
    assert found.step_s == pytest.approx(800e6 * 7 / 8 / 100e9 + sent)
    assert found.bound == "network"
    found = roofline(slice_, flops=197e9, hbm_bytes=819e6, collectives=[], passes=6)
    assert (found.step_s, found.bound) == (pytest.approx(6e-3), "compute")


def test_a_chip_alone_has_no_network_in_its_bound():
    found = roofline(
        parse_topology("v5e:1x1"), flops=197e12, hbm_bytes=0, collectives=[]
    )
    assert (found.network_s, found.step_s) == (0, 1)


def test_memory_is_arguments_new_results_temporaries_and_code():
    stats = SimpleNamespace(
        argument_size_in_bytes=100,
        output_size_in_bytes=80,
        alias_size_in_bytes=79,
        temp_size_in_bytes=1000,
        generated_code_size_in_bytes=7,
    )
    assert aot.memory_bytes(stats) == 100 + 1 + 1000 + 7


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, "
            "the total memory required for HLO temporaries (91.50G) exceeds "
            "available HBM (15.75G). HLO module: jit_train_step.",
            91.5 * 2**30,
        ),
        ("Ran out of memory. Used 20.25G of 15.75G hbm. Exceeded", 20.25 * 2**30),
        ("Used 512.00M of 15.75G hbm", 2**29),
        ("RESOURCE_EXHAUSTED: no more", None),
    ],
)
def test_the_memory_that_was_missing_is_read_from_the_error(message, needed):
    assert aot.needed_bytes(message) == needed


ENTRY = "ENTRY %main (p: f32[]) -> f32[] {{\n{}\n}}\n"


def fake_compiler(capacity, fixed=10**9, per_image=10**7):
    """A compiler of programs with memory linear in the images of a chip."""
    seen = []

    def compiler(config, topology):
        rows = config.train.batch_size // topology.chips
        seen.append(config.train.batch_size)
        if fixed + per_image * rows > capacity:
            return TooLarge(fixed + per_image * rows, 1.0)
        text = ENTRY.format(f"  %x = f32[{rows},1000000] negate(%y)")
        temp = per_image * rows
        return Compiled(text, fixed + temp, temp, flops=5e8 * rows, seconds=1.0)

    return compiler, seen


@pytest.fixture
def imagenet_config():
    import rtj

    return rtj.get_config("ablation:efficient,data=imagenet")


@pytest.mark.parametrize("start", [256, 1024, 65536])
@pytest.mark.parametrize("per_image", [3e6, 1e7, 1e8])
def test_the_search_finds_the_largest_power_of_two_in_a_few_compilations(
    imagenet_config, start, per_image
):
    pod = parse_topology("v5e:2x4")
    room = pod.chip.hbm_bytes
    compiler, seen = fake_compiler(room, per_image=int(per_image))
    config = planning.with_batch(imagenet_config, start)
    first = planning.make_plan(config, pod, compiler)
    found = planning.find_max_batch(config, pod, first, compiler)
    assert found == 2 ** int(math.log2(8 * (room - 1e9) / per_image))
    assert len(seen) <= 4


def test_the_search_gives_none_if_nothing_fits_and_refuses_other_batches(
    imagenet_config,
):
    pod = parse_topology("v5e:2x4")
    compiler, _ = fake_compiler(capacity=0)
    first = planning.make_plan(imagenet_config, pod, compiler)
    assert planning.find_max_batch(imagenet_config, pod, first, compiler) is None
    set_field(imagenet_config, "model.bn_group_size", 96)
    with pytest.raises(ConfigError, match=r"model\.bn_group_size=96"):
        planning.find_max_batch(imagenet_config, pod, first, compiler)


def test_scaling_keeps_the_images_of_a_chip_and_counts_against_the_first(
    imagenet_config,
):
    compiler, seen = fake_compiler(capacity=16e9)
    first = planning.make_plan(imagenet_config, parse_topology("v5e:2x4"), compiler)
    rows = planning.plan_scaling(
        imagenet_config, parse_topology("v5e:2x4"), first, compiler
    )
    assert [row["batch"] for row in rows] == [128 * 2**n for n in range(3, 9)]
    assert len(seen) == 6  # the first slice is the plan's own
    # No exchanges, so a chip of many is as fast as one of few.
    assert [row["efficiency"] for row in rows] == pytest.approx([1.0] * 6)
    assert "v5e:16x16" in describe_scaling(rows)


@pytest.mark.parametrize("capacity", [16e9, 2e9])
def test_a_plan_has_the_promised_fields_and_tables_to_read(imagenet_config, capacity):
    pod = parse_topology("v5e:2x4")
    compiler, _ = fake_compiler(capacity)
    plan = planning.make_plan(imagenet_config, pod, compiler)
    fields = command.to_json([plan, plan])
    assert set(PROMISED.split()) <= set(fields)
    assert fields["compare"]["batch"] == 1024
    assert json.loads(json.dumps(fields)) == fields
    assert plan.fits == (capacity == 16e9)
    assert "not a measurement" in describe(plan, pod)
    assert ("bound by memory" in describe(plan, pod)) == plan.fits
    assert "1.000" in describe_comparison(plan, plan)
    if plan.fits:
        # 128 images a chip: 6.4e10 FLOPs take 0.32 ms, 5.12e8 bytes 0.63 ms.
        step_s = 5.12e8 / 819e9
        assert plan.step_s == pytest.approx(step_s)
        assert plan.images_per_s == pytest.approx(1024 / step_s)
        assert plan.epoch_s == pytest.approx(1_281_167 / 1024 * step_s)


def test_groups_on_several_chips_are_pointed_out(imagenet_config):
    compiler, _ = fake_compiler(capacity=16e9)
    for text, told in (("v5e:2x4", False), ("v5e:4x4", True)):
        pod = parse_topology(text)
        plan = planning.make_plan(imagenet_config, pod, compiler)
        assert ("lie on several chips" in describe(plan, pod)) == told


CONFIG = "--config=configs/ablation.py:efficient,data=imagenet"


def test_without_libtpu_the_error_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert command.main([CONFIG, "--topology=v5e:2x4"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "libtpu" in line and "pip install 'rtj[plan]'" in line


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ([CONFIG], "--topology"),
        (["--topology=v5e:2x4"], "--config is missing"),
        ([CONFIG, "--topology=v5e:2x5"], "allowed: 1x1, 2x2"),
        ([CONFIG, "--topology=v5e:2x4", "--batch=100"], "100"),
        ([CONFIG, "--topology=v5e:2x4", "--config.train.batch=8"], "train.batch"),
        ([CONFIG, "--topology=v5e:2x4", "--compare=configs/no.py"], "no.py"),
        ([CONFIG, "--topology=v5e:2x4", "--batches=8"], "--batches=8"),
    ],
)
def test_bad_flags_end_with_2_and_one_line(capsys, flags, part):
    assert command.main(flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line


NEEDS = "libtpu, the TPU compiler, is the extra 'plan'"
TINY = [
    "--config=configs/ablation.py:low_precision,data=digits",
    "--topology=v5e:2x4",
    "--json",
    "--config.model.width=4",
    "--config.model.small_images=True",
    "--config.model.bn_group_size=8",
    "--config.data.image_size=14",
    "--config.data.eval_resize=14",
]


@pytest.fixture(scope="module")
def plan_here(run_rtj):
    """Runs the tool in a process of its own, where libtpu is installed."""
    pytest.importorskip("libtpu", reason=NEEDS)

    def run(*flags):
        done = run_rtj([*TINY, *flags], module="rtj.plan")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_a_real_step_for_v5e_has_three_all_reduces_and_fits(plan_here):
    plan = plan_here("--batch=64")
    assert set(PROMISED.split()) <= set(plan)
    assert plan["fits"] is True
    assert plan["hbm_bytes"] == 16 * 2**30
    assert 1 <= plan["all_reduces"] <= 3
    assert set(plan["collectives"]) == {"all-reduce"}
    # Twice 4 bytes a parameter, the momentum beside them, are the least of it.
    parameters = model_summary(
        "resnet14", width=4, small_images=True, num_classes=10
    ).parameters
    assert plan["memory_bytes"] > plan["temp_bytes"] + 2 * 4 * parameters
    # A gradient for each parameter, in 2 or 4 bytes, and batch norm's statistics.
    assert 2 * parameters < plan["collective_bytes"] < 4.4 * parameters
    macs = model_summary(
        "resnet14", 14, width=4, small_images=True, num_classes=10
    ).macs
    # At width 4 what is no product is a third.
    assert 1 < plan["flops"] / (3 * 2 * macs * 8) < 1.5
    assert plan["max_batch"] is None


def test_a_batch_that_cannot_fit_is_a_plan_too(plan_here):
    plan = plan_here(f"--batch={2**24}")
    assert plan["fits"] is False
    assert plan["memory_bytes"] > plan["hbm_bytes"]
    assert plan["step_s"] is None and plan["max_batch"] is None


def test_every_chip_of_every_kind_is_one_device():
    pytest.importorskip("libtpu", reason=NEEDS)
    code = (
        "from rtj.plan import aot, chips\n"
        "aot.prepare_host()\n"
        "for text in ('v4:2x2x2', 'v5e:1x1', 'v5e:4x4', 'v5p:4x4x4', 'v6e:2x4'):\n"
        "    topology = chips.parse_topology(text)\n"
        "    assert aot.topology_mesh(topology).size == topology.chips, text\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"mesh.devices": 1}, r"mesh\.devices=1"),
        (
            {"mesh.devices": 0, "train.batch_size": 12, "model.bn_group_size": 4},
            "a multiple of 8",
        ),
    ],
)
def test_a_plan_is_for_all_chips_of_its_slice(tiny_config, monkeypatch, changes, part):
    monkeypatch.setattr(aot, "topology_mesh", lambda topology: make_mesh(8))
    with pytest.raises(ConfigError, match=part):
        aot.compile_step(tiny_config(**changes), parse_topology("v5e:2x4"))


def test_sizes_of_data_are_known_without_opening_them(imagenet_config, tiny_config):
    from rtj.data.digits import TRAIN_PER_CLASS

    assert aot.data_size(imagenet_config) == (1000, 1_281_167)
    assert aot.data_size(tiny_config()) == (10, 10 * TRAIN_PER_CLASS)
    set_field(imagenet_config, "data.name", "synthetic")
    set_field(imagenet_config, "model.num_classes", 7)
    assert aot.data_size(imagenet_config)[0] == 7


def test_abstract_inputs_are_those_of_a_run(tiny_config):
    made, _ = step_program(tiny_config(**EIGHT, **{"data.repeats": 2}))
    state, batch = aot.abstract_inputs(made)
    real = jax.tree.map(lambda x: (x.shape, x.dtype), made.init_state())
    assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == real
    assert batch["image"].shape == (64, 14, 14, 3)
    assert set(batch) == {"image", "label", "index", "copy"}
