"""Boxes against torchvision, plain loops and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.transfer.detection import boxes as ops
from rtj.transfer.detection.boxes import HEAD_WEIGHTS, RPN_WEIGHTS
from tests.transfer.detection import plain


@jax.jit
@jax.vmap
def operations(boxes, proposals):
    return {
        "iou": ops.iou(boxes, proposals),
        "encoded": ops.encode(boxes, proposals, HEAD_WEIGHTS),
    }


@jax.jit
@jax.vmap
def decoded(offsets, anchors):
    return ops.decode(offsets, anchors, HEAD_WEIGHTS)


@pytest.fixture
def in_two_images(torchvision):
    """Boxes and proposals of each of two images, padded with zeros."""

    def pad(rows):
        padded = np.zeros((2, 32, 4), np.float32)
        padded[:, :20] = rows.reshape(2, 20, 4)
        return padded

    return pad(torchvision["boxes"]), pad(torchvision["proposals"])


def test_iou_and_encoding_equal_torchvisions_in_padded_images(
    torchvision, in_two_images
):
    got = operations(*in_two_images)
    for image, rows in enumerate([slice(0, 20), slice(20, 40)]):
        np.testing.assert_allclose(
            got["iou"][image, :20, :20], torchvision["iou"][rows, rows], atol=1e-6
        )
        np.testing.assert_allclose(
            got["encoded"][image, :20], torchvision["encoded"][rows], atol=2e-5
        )
    assert not got["iou"][:, 20:].any() and not got["encoded"][:, 20:].any()


def test_decoding_equals_torchvisions_in_padded_images(torchvision, in_two_images):
    offsets = np.zeros((2, 32, 4), np.float32)
    offsets[:, :20] = torchvision["encoded"].reshape(2, 20, 4)
    got = decoded(offsets, in_two_images[1])
    want = torchvision["decoded"].reshape(2, 20, 4)
    np.testing.assert_allclose(got[:, :20], want, atol=1e-3)
    assert not got[:, 20:].any()


def test_weights_are_the_inverse_of_gluon_cvs_stds():
    np.testing.assert_allclose(1 / np.array(HEAD_WEIGHTS), (0.1, 0.1, 0.2, 0.2))
    np.testing.assert_allclose(1 / np.array(RPN_WEIGHTS), (1, 1, 1, 1))


@pytest.mark.parametrize("weights", [RPN_WEIGHTS, HEAD_WEIGHTS])
def test_decoding_follows_the_papers_equation(weights):
    rng = np.random.default_rng(0)
    anchors = plain.random_boxes(rng, 30)
    offsets = rng.normal(0, 3, (30, 4)).astype(np.float32)
    want = [plain.decode(*pair, weights) for pair in zip(offsets, anchors, strict=True)]
    got = ops.decode(jnp.asarray(offsets), jnp.asarray(anchors), weights)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-3)


def test_a_box_grows_by_at_most_1000_sixteenths():
    anchor = jnp.array([0.0, 0.0, 10.0, 20.0])
    box = ops.decode(jnp.array([0.0, 0.0, 500.0, 500.0]), anchor, HEAD_WEIGHTS)
    np.testing.assert_allclose(box[2:] - box[:2], [625, 1250], rtol=1e-5)


def test_overlap_of_pascal_vocs_boxes_is_the_devkits():
    # Pixels 1 to 10 and 6 to 15 in both directions share 5 x 5 of 100 + 100 - 25.
    first, second = np.array([1, 1, 10, 10]), np.array([6, 6, 15, 15])
    first, second = (box - [1, 1, 0, 0] for box in (first, second))
    got = ops.iou(jnp.float32(first)[None], jnp.float32(second)[None])
    np.testing.assert_allclose(got, [[25 / 175]], rtol=1e-6)


def test_coverage_is_the_share_of_the_first_box():
    first, second = jnp.array([[0.0, 0, 10, 10]]), jnp.array([[5.0, 0, 105, 100]])
    np.testing.assert_allclose(ops.coverage(first, second), [[0.5]])
    np.testing.assert_allclose(ops.coverage(second, first), [[0.005]], rtol=1e-6)


def test_clipping_keeps_boxes_inside_the_image(odd_boxes):
    got = np.asarray(ops.clip(jnp.asarray(odd_boxes), 30, jnp.int32(40)))
    assert (got >= 0).all() and (got <= [40, 30, 40, 30]).all()
    np.testing.assert_array_equal(got[4], odd_boxes[4])
    np.testing.assert_array_equal(got[8], [0, 0, 40, 30])


def test_boxes_without_positive_sides_have_no_area(odd_boxes):
    boxes = jnp.asarray(odd_boxes)
    want = [False] * 4 + [True] * 7
    np.testing.assert_array_equal(ops.has_area(boxes), want)
    np.testing.assert_array_equal(ops.area(boxes) > 0, want)


def test_odd_boxes_give_finite_values_and_gradients(odd_boxes):
    def values(boxes, others):
        return (
            ops.iou(boxes, others),
            ops.coverage(boxes, others),
            ops.encode(boxes, others, HEAD_WEIGHTS),
            ops.decode(boxes, others, HEAD_WEIGHTS),
            ops.clip(boxes, 30, 40),
        )

    @jax.jit
    def both(boxes, others):
        out, back = jax.vjp(values, boxes, others)
        return out, back(jax.tree.map(jnp.ones_like, out))

    every, other = np.meshgrid(np.arange(11), np.arange(11))
    results = both(odd_boxes[every.ravel()], odd_boxes[other.ravel()])
    for array in jax.tree.leaves(results):
        assert np.isfinite(array).all()
    assert ((results[0][0] >= 0) & (results[0][0] <= 1)).all()
