"""Crop boxes against closed forms."""

import numpy as np
import pytest

from rtj.data import crop, hashing
from rtj.errors import ConfigError

PAPER_AREA = (0.08, 1.0)
PAPER_RATIO = (3 / 4, 4 / 3)


def draw(count, width, height, area, ratio, form="paper"):
    numbers = hashing.uniforms(hashing.make_key(11, np.arange(count)), 50).tolist()
    rule = crop.Rule(area, ratio, form)
    boxes = [crop.random_box(width, height, rule, row) for row in numbers]
    return np.asarray(boxes, float)


def ks_distance(samples, cdf):
    """Kolmogorov-Smirnov distance to a closed-form distribution function."""
    x = np.sort(samples)
    ranks = np.arange(1, len(x) + 1) / len(x)
    return max(np.max(ranks - cdf(x)), np.max(cdf(x) - ranks + 1 / len(x)))


def test_area_and_ratio_are_independent_and_distributed_as_documented():
    # Up to half the area every rectangle fits into a square: nothing is redrawn.
    count, side = 4000, 20_000
    left, top, right, bottom = draw(count, side, side, (0.08, 0.5), PAPER_RATIO).T
    area = (right - left) * (bottom - top) / side**2
    ratio = (right - left) / (bottom - top)
    limit = 1.95 / np.sqrt(count)  # p = 0.001
    assert ks_distance(area, lambda a: np.clip((a - 0.08) / 0.42, 0, 1)) < limit

    def ratio_cdf(r):
        low, high = PAPER_RATIO
        straight = (r - low) / (high - low)
        swapped = (high - 1 / r) / (high - low)
        return np.clip((straight + swapped) / 2, 0, 1)

    assert ks_distance(ratio, ratio_cdf) < limit
    assert abs(np.corrcoef(area, ratio)[0, 1]) < 4 / np.sqrt(count)
    assert ks_distance(left / (side - (right - left)), lambda u: u) < limit
    assert ks_distance(top / (side - (bottom - top)), lambda u: u) < limit


def test_the_log_form_is_uniform_in_the_logarithm_of_the_ratio():
    count, side = 4000, 20_000
    left, top, right, bottom = draw(count, side, side, (0.08, 0.5), (0.5, 2), "log").T
    log_ratio = np.log((right - left) / (bottom - top))
    uniform = lambda x: np.clip((x / np.log(2) + 1) / 2, 0, 1)  # noqa: E731
    assert ks_distance(log_ratio, uniform) < 1.95 / np.sqrt(count)


def test_an_unknown_form_is_an_error_that_lists_them():
    with pytest.raises(ConfigError, match="crop_form='timm': allowed are paper, log"):
        crop.make_rule(PAPER_AREA, PAPER_RATIO, "timm")


def test_paper_crops_lie_in_the_image_and_keep_to_their_ranges():
    left, top, right, bottom = draw(3000, 500, 375, PAPER_AREA, PAPER_RATIO).T
    assert left.min() >= 0 and top.min() >= 0
    assert right.max() <= 500 and bottom.max() <= 375
    width, height = right - left, bottom - top
    area = width * height / (500 * 375)
    # One pixel of rounding on the shortest side, 106 pixels, is 1 %.
    assert area.min() > 0.08 * 0.99 and area.max() <= 1.0
    assert (width / height).min() > 0.75 * 0.99
    assert (width / height).max() < 4 / 3 * 1.01


def test_a_ratio_range_on_one_side_of_one_is_not_swapped_out_of_itself():
    left, top, right, bottom = draw(500, 4000, 4000, (0.1, 0.4), (1.5, 2.0)).T
    ratio = (right - left) / (bottom - top)
    assert ratio.min() > 1.49 and ratio.max() < 2.01


def test_without_a_fitting_rectangle_the_largest_centred_box_is_taken():
    numbers = [0.5] * crop.NUMBERS_PER_BOX
    tall = crop.random_box(10, 1000, crop.Rule((1.0, 1.0), PAPER_RATIO), numbers)
    assert tall == (0, 493, 10, 506)  # 13 rows: 10 / (3/4)
    wide = crop.random_box(1000, 12, crop.Rule((1.0, 1.0), PAPER_RATIO), numbers)
    assert wide == (492, 0, 508, 12)  # 16 columns: 12 * 4/3
    fits = crop.largest_centred_box(40, 40, PAPER_RATIO)
    assert fits == (0, 0, 40, 40)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 50), (50, 1)])
def test_the_smallest_images_have_a_box(width, height):
    boxes = draw(50, width, height, PAPER_AREA, PAPER_RATIO)
    assert (boxes[:, 2] > boxes[:, 0]).all() and (boxes[:, 3] > boxes[:, 1]).all()


@pytest.mark.parametrize("value", [(0.0, 1.0), (0.5, 0.2), (0.5, 1.5), (0.5,)])
def test_a_bad_range_is_an_error_that_names_the_field(value):
    with pytest.raises(ConfigError, match="crop_area"):
        crop.check_range("crop_area", value, 0.0, 1.0)
