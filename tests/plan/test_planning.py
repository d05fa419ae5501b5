"""Search, scaling and tables, with a compiler of known memory."""

import json
import math

import pytest

from rtj.config import set_field
from rtj.errors import ConfigError
from rtj.plan import __main__ as command
from rtj.plan import planning
from rtj.plan.aot import Compiled, TooLarge
from rtj.plan.chips import parse_topology
from rtj.plan.table import describe, describe_comparison, describe_scaling

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
        return Compiled(
            text, fixed + temp, temp, flops=5e8 * rows, xla_bytes=1.0, seconds=1.0
        )

    return compiler, seen


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
def test_a_plan_has_the_promised_fields_and_tables_to_read(
    imagenet_config, promised, capacity
):
    pod = parse_topology("v5e:2x4")
    compiler, _ = fake_compiler(capacity)
    plan = planning.make_plan(imagenet_config, pod, compiler)
    fields = command.to_json([plan, plan])
    assert promised <= set(fields)
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


@pytest.mark.parametrize(
    ("batch", "group", "accumulate", "advised"),
    [
        (2048, 128, 1, 2),
        (4096, 128, 2, 4),
        (4096, 128, 1, 4),  # does not fit
        (2048, 128, 2, None),
        (2048, 0, 1, None),  # one group, of all chips
        (2048, 4, 1, None),  # too small to be micro-batches
    ],
)
def test_groups_beside_one_another_on_a_chip_are_pointed_out(
    imagenet_config, batch, group, accumulate, advised
):
    compiler, _ = fake_compiler(capacity=4e9)
    pod = parse_topology("v5e:2x4")
    set_field(imagenet_config, "train.batch_size", batch)
    set_field(imagenet_config, "train.accumulate", accumulate)
    set_field(imagenet_config, "model.bn_group_size", group)
    text = describe(planning.make_plan(imagenet_config, pod, compiler), pod)
    assert ("train.accumulate=" in text) == (advised is not None)
    assert advised is None or f"train.accumulate={advised} " in text
