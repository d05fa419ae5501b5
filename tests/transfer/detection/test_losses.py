"""The four losses against plain sums, and what must be 0 and finite."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.transfer.detection.losses import (
    HEAD_BETA,
    RPN_BETA,
    head_losses,
    rpn_losses,
    smooth_l1,
)
from tests.transfer.detection.plain import f32, i32

SIZE, CLASSES = 12, 5
run_rpn = jax.jit(rpn_losses)
run_head = jax.jit(head_losses)


def plain_smooth_l1(d, beta):
    return 0.5 * d * d / beta if abs(d) < beta else abs(d) - 0.5 * beta


def plain_box_losses(offsets, targets, rows, beta):
    return sum(
        plain_smooth_l1(float(a) - float(b), beta)
        for i in rows
        for a, b in zip(offsets[i], targets[i], strict=True)
    )


@pytest.fixture
def sample():
    """Random outputs and targets; 4 positive, 5 negative, 3 not there."""
    rng = np.random.default_rng(0)
    return {
        "logits": rng.normal(0, 2, SIZE).astype(np.float32),
        "class_logits": rng.normal(0, 2, (SIZE, CLASSES + 1)).astype(np.float32),
        "offsets": rng.normal(0, 1, (SIZE, 4)).astype(np.float32),
        "class_offsets": rng.normal(0, 1, (SIZE, CLASSES, 4)).astype(np.float32),
        "targets": rng.normal(0, 1, (SIZE, 4)).astype(np.float32),
        "labels": i32([1, 5, 3, 3] + [0] * 8),
        "mask": np.arange(SIZE) < 9,
    }


@pytest.mark.parametrize("beta", [1.0, 1 / 9])
def test_smooth_l1_equals_its_definition_and_is_smooth(beta):
    d = f32([-1e30, -3, -1.001, -1, -0.2, -0.05, 0, 1 / 9, 0.5, 1, 7])
    want = [plain_smooth_l1(float(x), beta) for x in d]
    np.testing.assert_allclose(smooth_l1(jnp.asarray(d), beta), want, rtol=1e-5)
    slope = jax.vmap(jax.grad(lambda x: smooth_l1(x, beta)))(jnp.asarray(d))
    np.testing.assert_allclose(slope, np.clip(d / np.float32(beta), -1, 1), rtol=1e-5)


def test_rpn_losses_are_sums_over_the_sample_by_its_size(sample):
    positive = sample["labels"] > 0
    got = run_rpn(
        sample["logits"], sample["offsets"], sample["targets"], positive, sample["mask"]
    )
    entropy = sum(
        math.log1p(math.exp(-x if p else x))
        for x, p in zip(sample["logits"][:9].tolist(), positive, strict=False)
    )
    box = plain_box_losses(sample["offsets"], sample["targets"], range(4), 1 / 9)
    np.testing.assert_allclose(got, [entropy / 9, box / 9], rtol=1e-5)


def test_head_losses_take_the_offsets_of_the_labels_class(sample):
    got = run_head(
        sample["class_logits"],
        sample["class_offsets"],
        sample["targets"],
        sample["labels"],
        sample["mask"],
    )
    entropy = sum(
        math.log(sum(math.exp(x) for x in row)) - row[label]
        for row, label in zip(
            sample["class_logits"][:9].tolist(), sample["labels"], strict=False
        )
    )
    own = [sample["class_offsets"][i, sample["labels"][i] - 1] for i in range(4)]
    box = plain_box_losses(own, sample["targets"], range(4), 1.0)
    np.testing.assert_allclose(got, [entropy / 9, box / 9], rtol=1e-5)


def test_parameters_of_smooth_l1_are_gluon_cvs():
    assert (RPN_BETA, HEAD_BETA) == (1 / 9, 1.0)


def gradients(sample, labels, mask):
    def rpn(logits, offsets):
        return sum(rpn_losses(logits, offsets, sample["targets"], labels > 0, mask))

    def head(logits, offsets):
        return sum(head_losses(logits, offsets, sample["targets"], labels, mask))

    return (
        jax.value_and_grad(rpn, (0, 1))(sample["logits"], sample["offsets"]),
        jax.value_and_grad(head, (0, 1))(
            sample["class_logits"], sample["class_offsets"]
        ),
    )


def test_what_is_masked_has_no_gradient_and_changes_nothing(sample):
    values = gradients(sample, sample["labels"], sample["mask"])
    for _, by_output in values:
        for gradient in by_output:
            assert gradient[:4].any() and not gradient[9:].any()
    # Boxes that are not positive have no box loss, nor have the other classes' offsets.
    assert not values[0][1][1][4:].any()
    others = np.arange(CLASSES) != (sample["labels"][:4] - 1)[:, None]
    assert not values[1][1][1][:4][others].any()
    changed = sample | {
        name: np.where(
            sample["mask"].reshape(-1, *[1] * (rows.ndim - 1)), rows, np.float32(1e6)
        )
        for name, rows in sample.items()
        if rows.dtype == np.float32
    }
    for old, new in zip(
        jax.tree.leaves(values),
        jax.tree.leaves(gradients(changed, sample["labels"], sample["mask"])),
        strict=True,
    ):
        np.testing.assert_array_equal(old, new)


def test_without_positive_boxes_only_the_classification_costs(sample):
    background = np.zeros(SIZE, np.int32)
    for value, (by_logits, by_offsets) in gradients(sample, background, sample["mask"]):
        assert np.isfinite(value) and value > 0
        assert np.isfinite(by_logits).all() and by_logits[:9].any()
        assert not by_offsets.any()


def test_an_empty_sample_costs_nothing(sample):
    for results in gradients(sample, sample["labels"], np.zeros(SIZE, bool)):
        assert not any(x.any() for x in jax.tree.leaves(results))


def test_extreme_outputs_cost_a_finite_amount(sample):
    extreme = sample | {
        name: np.sign(sample[name]) * np.float32(1e6)
        for name in ("logits", "class_logits", "offsets", "class_offsets")
    }
    results = gradients(extreme, sample["labels"], sample["mask"])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(results))
