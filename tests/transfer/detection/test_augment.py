"""Mirrored images and boxes stay together, and padding stays where it is."""

import jax
import numpy as np

from rtj.transfer.canvas import normalize_valid
from rtj.transfer.detection.augment import (
    mirror_boxes,
    mirror_image,
)
from tests.transfer.detection.plain import f32, i32


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def painted(box, size, canvas):
    """A canvas with noise in the image and 255 in the box; padding is 7."""
    image = np.full((*canvas, 3), 7, np.uint8)
    image[: size[0], : size[1]] = np.random.default_rng(0).integers(10, 200)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


def test_mirrored_boxes_hold_what_they_held():
    for box, size in (
        ([2, 3, 9, 8], (10, 20)),
        ([0, 0, 1, 1], (12, 17)),
        ([0, 2, 16, 9], (9, 16)),
    ):
        image = painted(box, size, (12, 24))
        found = jax.jit(mirror_image)(image, size[1])
        moved = mirror_boxes(f32([box]), size[1])[0].astype(int)
        x1, y1, x2, y2 = moved.tolist()
        assert (x2 - x1, y1, y2) == (box[2] - box[0], box[1], box[3])
        np.testing.assert_array_equal(found, painted(moved.tolist(), size, (12, 24)))


def test_mirroring_twice_changes_nothing():
    image = noise(6, 9, 3)
    once = mirror_image(image, 7)
    np.testing.assert_array_equal(once[:, 0], image[:, 6])
    np.testing.assert_array_equal(mirror_image(once, 7), image)
    boxes = f32([[1, 2, 5, 6], [0, 0, 7, 9]])
    np.testing.assert_array_equal(mirror_boxes(mirror_boxes(boxes, 7), 7), boxes)


def test_padding_is_0_after_the_normalisation_whatever_it_held():
    images = noise(2, 6, 8, 3)
    sizes = i32([[6, 8], [4, 5]])
    mean, std = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    found = normalize_valid(images, sizes, mean, std)
    want = (images - np.array(mean)) / np.array(std)
    np.testing.assert_allclose(found[0], want[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1, :4, :5], want[1, :4, :5], rtol=1e-5, atol=1e-6)
    assert not found[1, 4:].any() and not found[1, :, 5:].any()
