"""Distillation: equation 6, its gradient in closed form, and the form in the wild."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.errors import ConfigError
from rtj.tricks.distillation import distillation_loss
from rtj.tricks.label_smoothing import smooth_labels

K = 7


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.fixture
def case():
    """Student's logits, teacher's logits and targets of four examples."""
    draw = np.random.RandomState(0)
    targets = smooth_labels(jnp.array([0, 3, 6, 3]), K, 0.1)
    return 2 * draw.randn(4, K), 3 * draw.randn(4, K), np.asarray(targets)


def gradient(z, r, p, temperature, form="paper"):
    def total(z):
        return distillation_loss(z, jnp.array(r), jnp.array(p), temperature, form).sum()

    return np.asarray(jax.grad(total)(jnp.array(z)))


def test_it_is_the_sum_of_the_hard_loss_and_t_squared_times_the_soft_one(case):
    z, r, p = case
    hard = -(p * np.log(softmax(z))).sum(-1)
    soft = -(softmax(r / 20) * np.log(softmax(z / 20))).sum(-1)
    got = distillation_loss(jnp.array(z), jnp.array(r), jnp.array(p))
    np.testing.assert_allclose(got, hard + 400 * soft, rtol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 20.0])
def test_the_gradient_of_each_example_is_the_closed_form(case, temperature):
    z, r, p = case
    want = (softmax(z) - p) + temperature * (
        softmax(z / temperature) - softmax(r / temperature)
    )
    np.testing.assert_allclose(gradient(z, r, p, temperature), want, atol=2e-5)


def test_at_high_temperatures_the_soft_gradient_no_longer_depends_on_it(case):
    z, r, p = case
    centred = ((z - z.mean(-1, keepdims=True)) - (r - r.mean(-1, keepdims=True))) / K
    for temperature in (100.0, 200.0):
        soft = gradient(z, r, p, temperature) - (softmax(z) - p)
        np.testing.assert_allclose(soft, centred, atol=0.1)
    low = gradient(z, r, p, 1.0) - (softmax(z) - p)
    assert np.abs(low - centred).max() > 0.3


def test_a_student_that_agrees_with_its_teacher_is_moved_by_the_labels_alone(case):
    z, _, p = case
    np.testing.assert_allclose(gradient(z, z, p, 20.0), softmax(z) - p, atol=2e-5)


def test_the_average_form_is_half_of_the_papers(case):
    z, r, p = (jnp.array(x) for x in case)
    paper = distillation_loss(z, r, p, 20.0)
    average = distillation_loss(z, r, p, 20.0, "average")
    np.testing.assert_allclose(average, paper / 2, rtol=1e-6)


def test_no_gradient_reaches_the_teacher(case):
    z, r, p = (jnp.array(x) for x in case)
    grad = jax.grad(lambda r: distillation_loss(z, r, p).sum())(r)
    np.testing.assert_array_equal(grad, np.zeros_like(r))


def test_half_precision_logits_give_a_float32_loss(case):
    z, r, p = case
    half = distillation_loss(jnp.float16(z), jnp.float16(r), jnp.array(p))
    full = distillation_loss(jnp.array(z), jnp.array(r), jnp.array(p))
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, full, rtol=1e-3)


def test_an_unknown_form_is_refused(case):
    z, r, p = (jnp.array(x) for x in case)
    form: Any = "mean"
    with pytest.raises(ConfigError, match=r"'mean' is unknown; .*paper, average"):
        distillation_loss(z, r, p, 20.0, form)
