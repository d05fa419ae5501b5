"""Means, deviations and standard errors against closed forms."""

import math

import pytest

from rtj.study.statistics import Measure, difference, measure


def test_the_deviation_divides_by_one_less_than_the_runs():
    # 1, 2, 3: squares 1 + 0 + 1, over 2.
    assert measure([1.0, 2.0, 3.0]) == Measure(2.0, 1.0, 3)
    found = measure([90.0, 94.0])
    assert found is not None
    assert found.mean == 92.0
    assert found.std == pytest.approx(math.sqrt(8))


def test_one_run_has_no_deviation_and_none_no_mean():
    assert measure([5.0]) == Measure(5.0, None, 1)
    assert measure([]) is None


def test_a_differences_error_adds_both_variances_over_their_runs():
    gap, error = difference(Measure(10.0, 3.0, 9), Measure(7.0, 4.0, 16))
    assert gap == 3.0
    assert error == pytest.approx(math.sqrt(2))


def test_a_difference_to_a_single_run_has_no_error():
    assert difference(Measure(3.0, 1.0, 2), Measure(1.0, None, 1)) == (2.0, None)
    assert difference(Measure(3.0, None, 1), Measure(1.0, 1.0, 2)) == (2.0, None)
