"""The bound and the memory, against closed forms."""

from types import SimpleNamespace

import pytest

from rtj.plan import aot
from rtj.plan.chips import parse_topology
from rtj.plan.collectives import Collective
from rtj.plan.roofline import roofline


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
