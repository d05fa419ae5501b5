"""Both Nesterov forms against PyTorch's trajectory and the closed-form recurrence."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rtj.tricks.nesterov import nesterov
from rtj.tricks.no_bias_decay import weight_decay

FIXTURE = Path(__file__).parents[1] / "fixtures" / "torch.sgd_nesterov.npz"


def run(form, rates, problem):
    """Parameters after each step on mean((x @ w.T + b - y)^2), float64."""
    params = {"kernel": problem["w0"], "bias": problem["b0"]}
    schedule = lambda count: jnp.asarray(rates)[count]  # noqa: E731
    optimizer = optax.chain(
        weight_decay(float(problem["weight_decay"]), no_bias_decay=True),
        nesterov(schedule, float(problem["momentum"]), form),
    )
    state = optimizer.init(params)
    seen = []
    for x, y in zip(problem["x"], problem["y"], strict=True):

        def loss(p, x=x, y=y):
            return jnp.mean((x @ p["kernel"].T + p["bias"] - y) ** 2)

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    return seen


@pytest.fixture
def problem():
    """Six steps of PyTorch SGD(nesterov=True), float64, decay on the weight only."""
    with jax.enable_x64(True):
        yield dict(np.load(FIXTURE))


def test_outside_form_walks_pytorchs_trajectory(problem):
    for step, params in enumerate(run("outside", problem["lr"], problem)):
        np.testing.assert_allclose(params["kernel"], problem["w"][step], rtol=1e-12)
        np.testing.assert_allclose(params["bias"], problem["b"][step], rtol=1e-12)


def closed_form(problem, rates):
    """m <- mu m - eta (g + wd w); w <- w + mu m - eta (g + wd w), in NumPy."""
    w, b = problem["w0"].copy(), problem["b0"].copy()
    mw, mb, mu = np.zeros_like(w), np.zeros_like(b), problem["momentum"]
    for x, y, eta in zip(problem["x"], problem["y"], rates, strict=True):
        error = 2 * (x @ w.T + b - y) / y.size
        gw = error.T @ x + problem["weight_decay"] * w
        gb = error.sum(0)
        mw, mb = mu * mw - eta * gw, mu * mb - eta * gb
        w, b = w + mu * mw - eta * gw, b + mu * mb - eta * gb
        yield w, b


def test_inside_form_walks_mxnets_recurrence(problem):
    walked = run("inside", problem["lr"], problem)
    for params, (w, b) in zip(walked, closed_form(problem, problem["lr"]), strict=True):
        np.testing.assert_allclose(params["kernel"], w, rtol=1e-12)
        np.testing.assert_allclose(params["bias"], b, rtol=1e-12)


def test_the_forms_agree_at_a_constant_rate_and_differ_when_it_changes(problem):
    constant = np.full(6, 0.05)
    last = [run(f, constant, problem)[-1]["kernel"] for f in ("inside", "outside")]
    np.testing.assert_allclose(last[0], last[1], rtol=1e-12)
    last = [run(f, problem["lr"], problem)[-1]["kernel"] for f in ("inside", "outside")]
    assert np.abs(last[0] - last[1]).max() > 1e-3
