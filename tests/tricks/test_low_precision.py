"""fp16's loss scale: halves, grows, never passes its cap or falls below 1."""

import jax.numpy as jnp
import pytest

from rtj.tricks.low_precision import initial_loss_scale, next_loss_scale


def walk(finite, start=2.0**15, growth_steps=3, cap=2.0**16):
    state, scales = initial_loss_scale(start), []
    for ok in finite:
        state = next_loss_scale(
            state, jnp.bool_(ok), growth_steps=growth_steps, cap=cap
        )
        scales.append(float(state.scale))
    return scales


def test_an_overflow_halves_the_scale_and_restarts_the_count():
    assert walk([True, True, False, True, True, True]) == pytest.approx(
        [2.0**15, 2.0**15, 2.0**14, 2.0**14, 2.0**14, 2.0**15]
    )


def test_the_scale_never_passes_its_cap():
    assert max(walk([True] * 50)) == 2.0**16


def test_the_scale_never_falls_below_one():
    assert walk([False] * 40)[-1] == 1.0
