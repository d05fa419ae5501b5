"""Learning rates against the paper's formulas, at and around every hand-over."""

import math

import pytest

from rtj.tricks.cosine import cosine, warmup_cosine
from rtj.tricks.linear_scaling import linear_scaling
from rtj.tricks.step_decay import step_decay
from rtj.tricks.warmup import warmup

PEAK, WARM, TOTAL = 0.4, 5, 25
T = TOTAL - WARM


def paper_rate(batch: int) -> float:
    """Batch i of the warmup, from 1: i * eta / m; then equation 3 with t from 0."""
    if batch <= WARM:
        return batch * PEAK / WARM
    t = min(batch - WARM - 1, T)
    return 0.5 * (1 + math.cos(t * math.pi / T)) * PEAK


@pytest.mark.parametrize(
    "step", [0, 1, WARM - 1, WARM, WARM + 1, TOTAL // 2, TOTAL - 1, TOTAL, TOTAL + 50]
)
def test_warmup_cosine_follows_the_paper_at_every_boundary(step):
    schedule = warmup_cosine(PEAK, warmup_steps=WARM, total_steps=TOTAL)
    assert float(schedule(step)) == pytest.approx(paper_rate(step + 1), abs=1e-7)


def test_the_first_update_is_not_at_rate_zero_and_the_last_of_the_warmup_is_full():
    schedule = warmup_cosine(PEAK, warmup_steps=WARM, total_steps=TOTAL)
    assert float(schedule(0)) == pytest.approx(PEAK / WARM)
    assert float(schedule(WARM - 1)) == pytest.approx(PEAK)


def test_warmup_is_not_counted_inside_the_cosine():
    schedule = warmup_cosine(PEAK, warmup_steps=WARM, total_steps=TOTAL)
    assert float(schedule(WARM)) == pytest.approx(PEAK)
    assert float(schedule(WARM + T // 2)) == pytest.approx(PEAK / 2)


def test_the_rate_rises_then_falls_and_stays_at_zero_past_the_end():
    schedule = warmup_cosine(PEAK, warmup_steps=WARM, total_steps=TOTAL)
    rates = [float(schedule(step)) for step in range(3 * TOTAL)]
    assert rates[:WARM] == sorted(rates[:WARM])
    assert rates[WARM:] == sorted(rates[WARM:], reverse=True)
    assert set(rates[TOTAL:]) == {0.0}


@pytest.mark.parametrize("steps", [0, 1])
def test_the_shortest_warmups_start_at_the_peak(steps):
    assert float(warmup(PEAK, steps, cosine(PEAK, 10))(0)) == pytest.approx(PEAK)


def test_step_decay_divides_by_ten_from_each_boundary_on():
    schedule = step_decay(0.1, (30, 60, 90))
    got = [float(schedule(step)) for step in (0, 29, 30, 59, 60, 89, 90, 119)]
    want = [0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    assert got == pytest.approx(want)


@pytest.mark.parametrize(
    ("batch", "rate"), [(256, 0.1), (1024, 0.4), (64, 0.025), (8192, 3.2)]
)
def test_linear_scaling_is_a_tenth_at_256(batch, rate):
    assert linear_scaling(0.1, batch) == pytest.approx(rate)
