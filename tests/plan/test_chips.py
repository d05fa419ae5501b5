"""Slices and their links, against the figures of Google's pages."""

import pytest

from rtj.errors import ConfigError
from rtj.plan import chips
from rtj.plan.chips import CHIPS, parse_topology


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
