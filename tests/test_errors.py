"""Errors say what is allowed."""

from rtj.errors import nearest_first, unknown


def test_names_that_look_alike_come_first_and_none_is_lost():
    names = ["mixup", "cosine", "zero_gamma"]
    assert nearest_first("zero_gama", names) == ["zero_gamma", "mixup", "cosine"]


def test_nothing_allowed_is_an_error_of_ours_too():
    assert "'a' is unknown" in str(unknown("row", "a", []))
