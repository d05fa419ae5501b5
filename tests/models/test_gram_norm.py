"""Batch norm from a Gram matrix is batch norm: values, gradients, statistics."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from rtj.errors import ConfigError
from rtj.models import create_model, layers
from rtj.models.batch_norm import BatchNorm
from rtj.models.gram_norm import pointwise_norm

EPSILON = 1e-5


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


def operands(dtype, groups=2, size=(3, 5, 4), k=8, c=12, seed=0):
    """x after a ReLU, kernel, gamma of both signs, beta; and the result's gradient."""
    random = np.random.default_rng(seed)
    x = np.maximum(random.normal(0.5, 1, (groups, *size, k)), 0)
    kernel, dz = random.normal(size=(k, c)), random.normal(size=(groups, *size, c))
    scale, bias = random.normal(size=(2, c))
    wide = jnp.promote_types(jnp.float32, dtype)
    return (
        jnp.asarray(x, dtype),
        jnp.asarray(kernel, dtype),
        jnp.asarray(scale, wide),
        jnp.asarray(bias, wide),
    ), jnp.asarray(dz, dtype)


def direct(x, kernel, scale, bias):
    """Batch norm of the product by its definition; the statistics too."""
    y = (x @ kernel).astype(scale.dtype)
    axes = tuple(range(1, x.ndim - 1))
    mean, var = y.mean(axes, keepdims=True), y.var(axes, keepdims=True)
    z = (y - mean) / jnp.sqrt(var + EPSILON) * scale + bias
    return z.astype(x.dtype), mean, var


def by_gram(*operands):
    return pointwise_norm(*operands, EPSILON)


def values_and_gradients(function, operands, dz):
    @jax.jit
    def run(operands, dz):
        (z, mean, var), backward = jax.vjp(function, *operands)
        zeros = jnp.zeros_like(mean), jnp.zeros_like(var)
        return z, jnp.squeeze(mean), jnp.squeeze(var), *backward((dz, *zeros))

    return [np.asarray(a, np.float64) for a in run(operands, dz)]


@pytest.mark.parametrize("size", [(3, 5, 4), (2, 3, 2, 2)], ids=["images", "boxes"])
def test_the_gram_form_equals_batch_norm_of_the_product(float64, size):
    arguments, dz = operands(jnp.float64, size=size)
    expected = values_and_gradients(direct, arguments, dz)
    found = values_and_gradients(by_gram, arguments, dz)
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-10, atol=1e-11)


def test_in_bf16_it_is_as_near_to_the_exact_values_as_the_usual_form():
    arguments, dz = operands(jnp.bfloat16, size=(8, 14, 14), k=64, c=256)
    with jax.enable_x64(True):
        # What was rounded before, both forms share.
        wide = [jnp.asarray(np.asarray(a, np.float64)) for a in (*arguments, dz)]
        exact = values_and_gradients(direct, wide[:-1], wide[-1])
    usual = values_and_gradients(direct, arguments, dz)
    found = values_and_gradients(by_gram, arguments, dz)
    for truth, one, other in zip(exact, usual, found, strict=True):
        print([np.linalg.norm(a - truth) / np.linalg.norm(truth) for a in (one, other)])
    for truth, one, other in zip(exact, usual, found, strict=True):
        errors = [np.linalg.norm(a - truth) for a in (one, other)]
        # Of x's gradient two products are rounded, not one: 2.9e-3 against 2.3e-3. The
        # statistics' errors are 1e-7 against 1e-4.
        assert errors[1] <= 1.3 * errors[0]


def test_a_constant_channel_has_no_variance_and_no_gradient_that_is_not_finite():
    arguments, dz = operands(jnp.float32)
    kernel = arguments[1].at[:, 0].set(0)
    arguments = (arguments[0], kernel, *arguments[2:])
    z, _, var, *gradients = values_and_gradients(by_gram, arguments, dz)
    assert (var[:, 0] == 0).all()
    np.testing.assert_allclose(z[..., 0], arguments[3][0], rtol=1e-6)
    assert all(np.isfinite(g).all() for g in gradients)


def network(**options):
    """A ResNet-D of two bottlenecks with projections, in float64."""
    return create_model(
        "resnet14d",
        stage_sizes=(1, 1),
        num_classes=5,
        width=8,
        bn_group_size=4,
        dtype=jnp.float64,
        **options,
    )


def loss_and_gradients(model, variables, images):
    def loss(params):
        logits, new = model.apply(
            variables | {"params": params}, images, train=True, mutable=["batch_stats"]
        )
        return jnp.square(logits).sum(), new["batch_stats"]

    both = jax.jit(jax.value_and_grad(loss, has_aux=True))
    (value, stats), gradients = both(variables["params"])
    return flatten_dict({"loss": value, "stats": stats, "gradients": gradients})


@pytest.mark.slow
def test_a_network_trains_the_same_way_with_it_and_recomputed(float64):
    images = jax.random.normal(jax.random.key(0), (8, 32, 32, 3), jnp.float64)
    plain, changed = network(gram_norm=False), network(gram_norm=True, recompute=True)
    variables = jax.jit(plain.init)(jax.random.key(1), images)
    shapes = jax.eval_shape(changed.init, jax.random.key(1), images)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, variables)
    expected = loss_and_gradients(plain, variables, images)
    found = loss_and_gradients(changed, variables, images)
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, rtol=1e-7, atol=1e-9)


def test_evaluation_has_the_usual_form():
    images = jnp.ones((4, 32, 32, 3))

    def joins(train, **options):
        model = create_model("resnet14", stage_sizes=(1,), width=8, **options)
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        mutable = ["batch_stats"] if train else False
        apply = partial(model.apply, train=train, mutable=mutable)
        return str(jax.make_jaxpr(apply)(variables, images)).count("pointwise_norm")

    assert joins(train=True, gram_norm=True) > 0
    assert joins(train=False, gram_norm=True) == 0
    assert joins(train=True) == 0


def kept_bytes(**options):
    """What the forward pass leaves for the backward pass."""
    images = jnp.ones((8, 64, 64, 3))
    model = create_model("resnet26b", width=16, bn_group_size=8, **options)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def backward(params, stats):
        def logits(params):
            variables = {"params": params, "batch_stats": stats}
            return model.apply(variables, images, train=True, mutable=["batch_stats"])

        return jax.vjp(lambda p: logits(p)[0], params)[1]

    kept = jax.eval_shape(backward, variables["params"], variables["batch_stats"])
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))


def test_the_backward_pass_is_left_less_by_gram_matrices_and_least_by_recomputing():
    usual, by_gram, recomputed = (
        kept_bytes(gram_norm=gram, recompute=again)
        for gram, again in ((False, False), (True, False), (True, True))
    )
    assert by_gram < 0.85 * usual
    assert recomputed < 0.4 * usual


def test_other_networks_say_that_they_have_no_such_option(tiny_config):
    from rtj.parts import network_options

    config = tiny_config(**{"model.name": "mobilenet", "model.gram_norm": True})
    with pytest.raises(ConfigError, match=r"gram_norm=True is not an option"):
        network_options(config)


@pytest.mark.parametrize("train", [True, False])
def test_pooling_before_the_norm_is_pooling_after_it(train):
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(3, 2, (4, 8, 8, 6)), jnp.float32)
    params = {
        "scale": jnp.asarray([-2.0, -0.5, 0.0, 0.1, 1, 3]),
        "bias": jnp.asarray(random.normal(size=6), jnp.float32),
    }
    stats = {"mean": jnp.full(6, 2.5), "var": jnp.full(6, 3.0)}
    variables = {"params": params, "batch_stats": stats}
    norm = BatchNorm(group_size=2)

    def run(pool):
        return norm.apply(variables, x, train=train, pool=pool, mutable=["batch_stats"])

    after, expected = run(None)
    before, found = run(layers.max_pool_3x3)
    np.testing.assert_array_equal(before, layers.max_pool_3x3(after))
    for name, value in expected["batch_stats"].items():
        np.testing.assert_allclose(found["batch_stats"][name], value, rtol=1e-6)
