"""Boxes that make no sense are named and counted, and cost no image."""

import logging
import math

import numpy as np
import pytest

from rtj.transfer.detection.objects import Faults, Object, make_example

CLASSES = ("cat", "dog")
SIZE = (375, 500)


def example(objects, faults=None):
    return make_example(b"", SIZE, objects, CLASSES, "x", faults or Faults("shelf"))


def thing(*box, name="dog", difficult=False):
    return Object(box, name, difficult)


def test_good_objects_stay_as_they_are():
    faults = Faults("shelf")
    found = example(
        [thing(0, 0, 500, 375), thing(1.5, 2, 3, 4.25, name="cat", difficult=True)],
        faults,
    )
    np.testing.assert_array_equal(found["boxes"], [[0, 0, 500, 375], [1.5, 2, 3, 4.25]])
    np.testing.assert_array_equal(found["labels"], [1, 0])
    np.testing.assert_array_equal(found["difficult"], [False, True])
    dtypes = [found[key].dtype for key in ("boxes", "labels", "difficult")]
    assert dtypes == [np.float32, np.int32, bool]
    assert not faults.dropped and not faults.clipped


def test_an_image_without_objects_is_an_example():
    found = example([])
    assert found["boxes"].shape == (0, 4) and found["boxes"].dtype == np.float32
    assert found["labels"].shape == found["difficult"].shape == (0,)


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (thing(math.nan, 1, 2, 3), "is not four numbers"),
        (thing(1, 1, math.inf, 3), "is not four numbers"),
        (thing(5, 1, 5, 3), r"\(5, 1, 5, 3\) has no area"),
        (thing(1, 9, 5, 3), "has no area"),
        (thing(500, 1, 600, 3), "is outside the 500 x 375 image"),
        (thing(-9, -9, 0, 3), "is outside"),
        (thing(1, 375, 5, 380), "is outside"),
        (thing(9, 1, 9 + 1e-9, 3), "is outside"),
        (thing(1, 1, 5, 3, name="owl"), "class 'owl' is none of the data set's"),
        (thing(1, 1, 5, 3, name=""), "class '' is none"),
    ],
)
def test_an_object_that_cannot_be_used_is_left_out_and_named(bad, fault, caplog):
    faults = Faults("shelf")
    good = thing(1, 2, 3, 4)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = example([good, bad, good], faults)
    np.testing.assert_array_equal(found["boxes"], [[1, 2, 3, 4]] * 2)
    assert len(found["labels"]) == len(found["difficult"]) == 2
    assert (len(faults.dropped), len(faults.clipped)) == (1, 0)
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("shelf: objects left out: 1, example x: object 1: ")
    with pytest.raises(AssertionError, match=fault):
        raise AssertionError(text)


@pytest.mark.parametrize(
    ("box", "cut", "counted"),
    [
        ((-1, 10, 30, 40), (0, 10, 30, 40), 0),
        ((10, -1, 501, 376), (10, 0, 500, 375), 0),
        ((-20, 10, 30, 40), (0, 10, 30, 40), 1),
        ((10, 10, 30, 400), (10, 10, 30, 375), 1),
        ((-9, -9, 900, 900), (0, 0, 500, 375), 1),
    ],
)
def test_a_box_is_cut_to_its_image(box, cut, counted):
    faults = Faults("shelf")
    found = example([thing(*box)], faults)
    np.testing.assert_array_equal(found["boxes"], [cut])
    assert (len(faults.dropped), len(faults.clipped)) == (0, counted)
