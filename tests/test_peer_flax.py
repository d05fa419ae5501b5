"""The Flax example of `rtj.bench step` is the example: network, loss, step."""

import jax.numpy as jnp
import numpy as np
import optax
from flax.training.dynamic_scale import DynamicScale

from rtj.bench import peer_flax
from rtj.models import count_macs, count_parameters


def test_the_flax_examples_network_is_torchvisions_resnet50():
    # torchvision's table has 25,557,032 parameters and 4.09 G, which fvcore counts.
    model = peer_flax.ResNet(peer_flax.STAGE_SIZES["resnet50b"])
    assert count_parameters(model, 224) == 25_557_032
    assert count_macs(model, 224) == 4_089_184_256


def test_the_flax_examples_loss_decays_kernels_and_no_vectors():
    logits = jnp.zeros((4, 1000))
    loss = peer_flax.cross_entropy_loss(logits, jnp.arange(4))
    np.testing.assert_allclose(loss, np.log(1000), rtol=1e-6)
    params = {"kernel": jnp.full((2, 3), 2.0), "scale": jnp.full(5, 2.0)}
    penalty = peer_flax.weight_penalty(params)
    np.testing.assert_allclose(penalty, 0.0001 / 2 * 6 * 2**2, rtol=1e-6)


def test_the_flax_examples_step_is_nesterovs_with_that_decay():
    """A network that gives zeros has the gradient of the decay alone."""

    def zeros(variables, images, mutable):
        return jnp.zeros((len(images), 1000)), {"batch_stats": {}}

    params = {"kernel": jnp.full((2, 3), 2.0), "scale": jnp.full(5, 2.0)}
    state = peer_flax.TrainState.create(
        apply_fn=zeros,
        params=params,
        tx=optax.sgd(10.0, momentum=0.9, nesterov=True),
        batch_stats={},
        dynamic_scale=None,
    )
    batch = {"image": jnp.zeros((4, 8, 8, 3)), "label": jnp.arange(4)}
    state, metrics = peer_flax.train_step(state, batch, lambda step: 10.0)
    gradient = 0.0001 * 2
    # Nesterov: the first step goes by the gradient and 0.9 of the velocity, also it.
    expected = 2 - 10 * 1.9 * gradient
    np.testing.assert_allclose(state.params["kernel"], expected, rtol=1e-6)
    np.testing.assert_array_equal(state.params["scale"], 2)
    np.testing.assert_allclose(metrics["loss"], np.log(1000), rtol=1e-6)


def test_the_flax_examples_float16_step_skips_what_overflows():
    def infinite(variables, images, mutable):
        total = variables["params"]["kernel"].sum() * jnp.inf
        return jnp.full((len(images), 1000), total), {"batch_stats": {}}

    params = {"kernel": jnp.full((2, 3), 2.0)}
    state = peer_flax.TrainState.create(
        apply_fn=infinite,
        params=params,
        tx=optax.sgd(10.0, momentum=0.9, nesterov=True),
        batch_stats={},
        dynamic_scale=DynamicScale(scale=64.0),
    )
    batch = {"image": jnp.zeros((4, 8, 8, 3)), "label": jnp.arange(4)}
    state, metrics = peer_flax.train_step(state, batch, lambda step: 10.0)
    np.testing.assert_array_equal(state.params["kernel"], 2)
    assert metrics["scale"] == 32
