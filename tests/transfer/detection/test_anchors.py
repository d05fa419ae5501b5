"""Anchors against the published table of Faster R-CNN's, and by hand."""

import jax.numpy as jnp
import numpy as np

from rtj.transfer.detection.anchors import (
    C4_SIZES,
    C4_STRIDE,
    FPN_SIZES,
    FPN_STRIDES,
    inside_image,
    map_anchors,
    place_anchors,
)
from tests.transfer.detection.plain import f32

# First and last pixels, counted from 1, in the comment of `generate_anchors.py` of
# py-faster-rcnn: stride 16, ratios 0.5, 1, 2, scales 8, 16, 32.
TABLE = [
    [-83, -39, 100, 56],
    [-175, -87, 192, 104],
    [-359, -183, 376, 200],
    [-55, -55, 72, 72],
    [-119, -119, 136, 136],
    [-247, -247, 264, 264],
    [-35, -79, 52, 96],
    [-79, -167, 96, 184],
    [-167, -343, 184, 360],
]


def test_anchors_equal_the_table_of_faster_rcnns_authors():
    got = place_anchors(16, [16 * scale for scale in (8, 16, 32)])
    np.testing.assert_array_equal(got, np.array(TABLE) - [1, 1, 0, 0])


def test_c4_has_gluon_cvs_five_scales_of_16_pixels_at_three_ratios():
    got = place_anchors(C4_STRIDE, C4_SIZES)
    assert got.shape == (15, 4)
    # At ratio 1 (the middle five), scales 2, 4, 8, 16, 32 times 16 pixels.
    sides = (got[:, 2:] - got[:, :2])[5:10]
    np.testing.assert_array_equal(sides, np.array([[2, 4, 8, 16, 32]] * 2).T * 16)


def test_places_come_in_rows_and_share_their_windows_centre():
    got = map_anchors(3, 5, C4_STRIDE, C4_SIZES).reshape(3, 5, 15, 4)
    assert got.dtype == np.float32
    for y in range(3):
        for x in range(5):
            centers = (got[y, x, :, :2] + got[y, x, :, 2:]) / 2
            np.testing.assert_array_equal(centers, [[16 * x + 8, 16 * y + 8]] * 15)
    np.testing.assert_array_equal(got[2, 3] - got[0, 0], [[48, 32, 48, 32]] * 15)


def test_a_pyramid_has_one_size_a_level_and_windows_of_whole_pixels():
    sides = []
    for stride, size in zip(FPN_STRIDES, FPN_SIZES, strict=True):
        got = map_anchors(2, 2, stride, [size])
        assert got.shape == (2 * 2 * 3, 4)
        sides.append((got[9:, 2:] - got[9:, :2]).tolist())
    # 4 x 4 becomes 6 x 3, 4 x 4 and 3 x 6, and those eight times larger; 8 x 8 becomes
    # 11 x 6, 8 x 8 and 6 x 12.
    assert sides[0] == [[48, 24], [32, 32], [24, 48]]
    assert sides[1] == [[88, 48], [64, 64], [48, 96]]
    assert [level[1] for level in sides] == [[s, s] for s in (32, 64, 128, 256, 512)]


def test_anchors_over_the_images_border_are_told_apart():
    anchors = f32(
        [[0, 0, 40, 30], [-1, 0, 9, 9], [0, 0, 41, 9], [0, 0, 9, 31], [5, 5, 9, 9]]
    )
    got = inside_image(anchors, 30, jnp.int32(40))
    np.testing.assert_array_equal(got, [True, False, False, False, True])
    assert inside_image(anchors, 30, 40, border=1).all()
