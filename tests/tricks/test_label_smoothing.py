"""Label smoothing: distributions, the optimal gap, both forms, float32."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.tricks.label_smoothing import cross_entropy, optimal_gap, smooth_labels


@pytest.mark.parametrize("form", ["paper", "uniform"])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_targets_sum_to_one(form, classes):
    targets = smooth_labels(jnp.arange(2), classes, 0.1, form)
    np.testing.assert_allclose(targets.sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("form", "off", "on"),
    [("paper", 0.05, 0.9), ("uniform", 0.1 / 3, 0.9 + 0.1 / 3)],
)
def test_three_classes_get_the_values_of_the_formula(form, off, on):
    targets = smooth_labels(jnp.array([1]), 3, 0.1, form)
    np.testing.assert_allclose(targets, [[off, on, off]], rtol=1e-6)


def test_uniform_form_with_scaled_eps_is_the_paper_form():
    labels = jnp.array([0, 4])
    paper = smooth_labels(labels, 10, 0.1, "paper")
    uniform = smooth_labels(labels, 10, 0.1 * 10 / 9, "uniform")
    np.testing.assert_allclose(paper, uniform, rtol=1e-5)


def test_optimal_gap_is_the_papers_and_minimises_the_loss():
    assert optimal_gap(0.1, 1000) == pytest.approx(9.1, abs=0.01)
    assert optimal_gap(0.1, 1000) == pytest.approx(math.log(999 * 0.9 / 0.1))
    targets = smooth_labels(jnp.array([0]), 1000, 0.1)

    def loss(gap):
        return cross_entropy(jnp.zeros((1, 1000)).at[0, 0].set(gap), targets)[0]

    assert float(jax.grad(loss)(optimal_gap(0.1, 1000))) == pytest.approx(0, abs=1e-5)


def test_the_gradient_is_softmax_minus_target():
    logits = jnp.array([[1.0, -2.0, 0.5]])
    targets = smooth_labels(jnp.array([2]), 3, 0.1)
    gradient = jax.grad(lambda z: cross_entropy(z, targets).sum())(logits)
    e = np.exp(np.array([1.0, -2.0, 0.5]))
    np.testing.assert_allclose(gradient[0], e / e.sum() - targets[0], atol=1e-6)


def test_half_precision_logits_give_a_finite_float32_loss():
    logits = jnp.full((2, 1000), -60000.0, jnp.float16).at[:, 0].set(60000.0)
    losses = cross_entropy(logits, smooth_labels(jnp.array([0, 1]), 1000, 0.1))
    assert losses.dtype == jnp.float32
    want = [0.1 * 120000, 120000 - 120000 * 0.1 / 999]
    np.testing.assert_allclose(losses, want, rtol=1e-6)


def test_mixing_smoothed_labels_is_smoothing_mixed_labels():
    a, b = (smooth_labels(jnp.array([i]), 5, 0.1) for i in (0, 3))
    one_hot = 0.3 * jax.nn.one_hot(0, 5) + 0.7 * jax.nn.one_hot(3, 5)
    smoothed = 0.1 / 4 + (0.9 - 0.1 / 4) * one_hot
    np.testing.assert_allclose(0.3 * a[0] + 0.7 * b[0], smoothed, rtol=1e-5)
