"""The polynomial schedule against its formula."""

import itertools

import pytest

import rtj
from rtj.config import set_field
from rtj.parts import make_schedule
from rtj.tricks.poly import poly

PEAK, WARM, TOTAL = 0.01, 5, 25


@pytest.mark.parametrize("power", [0.9, 2.0])
@pytest.mark.parametrize("step", [0, 1, 10, TOTAL - 1, TOTAL, 3 * TOTAL])
def test_poly_is_one_less_the_fraction_done_to_a_power(step, power):
    want = PEAK * max(1 - step / TOTAL, 0) ** power
    assert float(poly(PEAK, TOTAL, power)(step)) == pytest.approx(want, abs=1e-9)


def test_the_power_is_0_9_unless_said_otherwise():
    assert float(poly(PEAK, TOTAL)(10)) == pytest.approx(PEAK * 0.6**0.9)


def test_the_rate_falls_at_every_update_and_stays_at_zero_past_the_end():
    rates = [float(poly(PEAK, TOTAL)(step)) for step in range(2 * TOTAL)]
    assert all(a > b for a, b in itertools.pairwise(rates[: TOTAL + 1]))
    assert set(rates[TOTAL:]) == {0.0}


def schedule_of_a_run(warmup_epochs):
    config = rtj.get_config("segmentation:ade20k")
    set_field(config, "tricks.warmup_epochs", warmup_epochs)
    return make_schedule(config, steps_per_epoch=WARM, total_steps=TOTAL)


def test_the_warmup_comes_before_the_decay_and_is_not_counted_in_it():
    schedule = schedule_of_a_run(1.0)
    for step in range(2 * TOTAL):
        fraction = max(1 - (step - WARM) / (TOTAL - WARM), 0)
        want = (step + 1) / WARM if step < WARM else fraction**0.9
        assert float(schedule(step)) == pytest.approx(PEAK * want, abs=1e-9)


def test_without_warmup_the_first_update_is_at_the_peak():
    assert float(schedule_of_a_run(0.0)(0)) == pytest.approx(PEAK)
