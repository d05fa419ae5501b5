"""Batches on slices, put together from programs of a known size."""

import pytest

from rtj.config import set_field
from rtj.plan import __main__ as command
from rtj.plan.aot import Compiled, TooLarge
from rtj.plan.chips import parse_topology
from rtj.plan.growth import BATCHES, least_hidden, plan_growth, with_images
from rtj.plan.growth_figure import describe_growth, plot_growth

GRADIENTS = 200_000_000  # bytes
PER_IMAGE = 100_000_000  # bytes of traffic


@pytest.fixture
def compiled():
    """Programs of up to 64 images a chip: an all-reduce and a pass over the images."""
    seen = []

    def compiler(config, topology):
        images = config.train.batch_size // topology.chips
        seen.append((images, config.model.bn_group_size))
        if images > 64:
            return TooLarge(None, 1.0)
        gradients = f"f32[{GRADIENTS // 4}]{{0:S(1)}}"
        lines = [
            f"  %p = {gradients} parameter(0)",
            f"  %x = f32[{images},{PER_IMAGE // 8}] negate(%x)",
            f"  %g = {gradients} all-reduce(%p), replica_groups={{}}",
        ]
        text = "ENTRY %main (p: f32[]) -> f32[] {\n" + "\n".join(lines) + "\n}\n"
        return Compiled(text, 1, 1, flops=1.0, xla_bytes=1.0, seconds=1.0)

    return compiler, seen


def test_every_slice_is_predicted_from_one_compilation_an_image_count(
    imagenet_config, compiled
):
    compiler, seen = compiled
    pod = parse_topology("v5e:2x4")
    cells = plan_growth(imagenet_config, pod, compiler)
    # 128 does not fit; groups of the config's 128 are cut to a chip's images.
    assert seen == [(2**n, 2**n) for n in range(8)]
    assert {cell["chips"] for cell in cells} == {8, 16, 32, 64, 128, 256}
    assert {cell["batch"] for cell in cells} == set(BATCHES)
    by_place = {(cell["chips"], cell["batch"]): cell for cell in cells}
    assert not by_place[8, 1024]["fits"]
    cell = by_place[16, 1024]
    slice_ = parse_topology(cell["topology"])
    memory_s = 64 * PER_IMAGE / 819e9
    network_s = 2 * GRADIENTS * 15 / 16 / slice_.ici_bandwidth
    assert cell["network_s"] == pytest.approx(network_s)
    assert cell["chip_s"] == pytest.approx(memory_s)
    assert cell["step_s"] == pytest.approx(cell["chip_s"] + network_s)
    assert cell["images_per_s"] == pytest.approx(1024 / cell["step_s"])
    assert cell["collective_bytes"] == GRADIENTS


@pytest.mark.parametrize(
    ("group", "images", "expected"),
    [
        (128, 64, (64, 1)),  # cut to the chip's images
        (128, 128, (128, 1)),
        (128, 512, (128, 4)),  # one group after another
        (4, 16, (4, 1)),  # too few images for more than one micro-batch
        (4, 128, (4, 4)),  # eight groups each
        (0, 512, (512, 1)),  # one group is one micro-batch
    ],
)
def test_the_groups_of_a_chip_go_one_after_another(
    imagenet_config, group, images, expected
):
    set_field(imagenet_config, "model.bn_group_size", group)
    changed = with_images(imagenet_config, images, chips=8)
    assert changed.train.batch_size == 8 * images
    assert (changed.model.bn_group_size, changed.train.accumulate) == expected


@pytest.mark.parametrize("group", [128, 32])
def test_an_exchange_hides_behind_the_backward_pass_of_the_last_micro_batch(
    imagenet_config, compiled, group
):
    set_field(imagenet_config, "model.bn_group_size", group)
    cells = plan_growth(imagenet_config, parse_topology("v5e:2x4"), compiled[0])
    hiding: dict[str, set[int]] = {cell["topology"]: set() for cell in cells}
    for cell in cells:
        if cell["fits"]:
            last_s = cell["chip_s"] / max(1, cell["per_chip_batch"] // group)
            assert cell["hides"] == (cell["network_s"] <= 2 / 3 * last_s)
            hiding[cell["topology"]] |= {cell["batch"]} if cell["hides"] else set()
    # 3.5 ms to exchange; two thirds of 3.9 and 7.8 ms for 32 and 64 images.
    assert hiding["v5e:2x4"] == (set() if group == 32 else {512})
    assert least_hidden(cells) == {k: min(v, default=None) for k, v in hiding.items()}


def test_growth_is_shown_as_a_table_and_a_figure(imagenet_config, compiled, tmp_path):
    cells = plan_growth(imagenet_config, parse_topology("v5e:2x4"), compiled[0])
    text = describe_growth(cells)
    for part in ("v5e:16x16", "32,768", "200.0 MB, whatever", "*", " - "):
        assert part in text
    cells[0] = cells[0] | {"collective_bytes": 3 * GRADIENTS}
    assert "200.0 MB, up to 600.0 MB with" in describe_growth(cells)
    plot_growth(cells, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--figure=a.png"], "--growth"),
        (["--growth", "--figure=a.txt"], "a.txt"),
        (["--growth", "--figure=nowhere/a.png"], "nowhere"),
        (["--traffic=-1"], "--traffic=-1"),
    ],
)
def test_bad_flags_are_refused_before_anything_is_compiled(flags, part, capsys):
    assert command.main(["--topology=v5e:2x4", *flags]) == 2
    assert part in capsys.readouterr().err
