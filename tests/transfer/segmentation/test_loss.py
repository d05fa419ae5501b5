"""The loss of pixels against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.sharding import make_mesh, split
from rtj.transfer.segmentation.fcn import Logits
from rtj.transfer.segmentation.loss import fcn_loss, pixel_cross_entropy

CLASSES = 4


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 3, (8, 5, 6, CLASSES)).astype(np.float32)


@pytest.fixture
def masks():
    masks = np.random.default_rng(1).integers(0, CLASSES, (8, 5, 6)).astype(np.int32)
    masks[0] = 255
    masks[1, :2] = 255
    return masks


def numpy_loss(logits, masks, ignore_label):
    logits = logits.astype(np.float64)
    total, count = 0.0, 0
    for place in np.ndindex(masks.shape):
        if masks[place] != ignore_label:
            row = logits[place]
            total += np.log(np.exp(row).sum()) - row[masks[place]]
            count += 1
    return total / count


@pytest.mark.parametrize("ignore_label", [255, -1])
def test_loss_is_the_mean_over_the_pixels_that_count(logits, masks, ignore_label):
    masks = np.where(masks == 255, ignore_label, masks)
    found = pixel_cross_entropy(logits, masks, ignore_label=ignore_label)
    assert found == pytest.approx(numpy_loss(logits, masks, ignore_label), rel=1e-5)
    assert found.dtype == jnp.float32


def test_masks_of_8_bits_give_the_same_loss(logits, masks):
    found = pixel_cross_entropy(logits, masks.astype(np.uint8))
    assert found == pixel_cross_entropy(logits, masks)


def test_ignored_pixels_get_no_gradient_and_the_rest_softmax_less_one_hot(
    logits, masks
):
    found = jax.grad(pixel_cross_entropy)(jnp.asarray(logits), masks)
    counted = masks != 255
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    want = (p - np.eye(CLASSES)[masks % 255]) * counted[..., None] / counted.sum()
    np.testing.assert_allclose(found, want, atol=1e-7)


def test_loss_and_gradient_are_0_when_no_pixel_counts(logits, masks):
    masks = np.full_like(masks, 255)
    value, gradient = jax.value_and_grad(pixel_cross_entropy)(
        jnp.asarray(logits), masks
    )
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("label", [CLASSES, 254, -1])
def test_a_label_that_is_no_class_makes_the_loss_nan(logits, masks, label):
    masks[4, 2, 3] = label
    assert np.isnan(pixel_cross_entropy(logits, masks))


def test_half_precision_logits_give_a_float32_loss(logits, masks):
    found = pixel_cross_entropy(jnp.asarray(logits, jnp.bfloat16), masks)
    assert found.dtype == jnp.float32
    assert found == pytest.approx(numpy_loss(logits, masks, 255), rel=1e-2)


def test_the_mean_is_over_the_global_batch_of_8_devices(logits, masks):
    """Devices with few counted pixels must not weigh as much as the others."""
    spread = split(make_mesh(8))
    on_eight = jax.jit(pixel_cross_entropy)(
        jax.device_put(logits, spread), jax.device_put(masks, spread)
    )
    assert on_eight == pytest.approx(numpy_loss(logits, masks, 255), rel=1e-5)


def test_the_auxiliary_loss_is_added_at_half_weight_unless_said_otherwise(
    logits, masks
):
    aux = logits[::-1]
    main, other = numpy_loss(logits, masks, 255), numpy_loss(aux, masks, 255)
    both = Logits(jnp.asarray(logits), jnp.asarray(aux))
    assert fcn_loss(both, masks) == pytest.approx(main + 0.5 * other, rel=1e-5)
    found = fcn_loss(both, masks, aux_weight=0.2)
    assert found == pytest.approx(main + 0.2 * other, rel=1e-5)
    assert fcn_loss(Logits(both.out, None), masks) == pytest.approx(main, rel=1e-5)
