"""Initialisers, zero gamma and the decayed set, on whole networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rtj.models import create_model
from rtj.tricks.initializers import kernel_initializer
from rtj.tricks.no_bias_decay import kernel_mask, weight_decay

SHAPE = (3, 3, 64, 128)
FAN_IN, FAN_OUT = 9 * 64, 9 * 128


def draw(name):
    return np.asarray(kernel_initializer(name)(jax.random.key(0), SHAPE))


def test_xavier_is_uniform_with_the_papers_bound():
    kernel, bound = draw("xavier"), np.sqrt(6 / (FAN_IN + FAN_OUT))
    assert np.abs(kernel).max() <= bound
    assert np.abs(kernel).max() > 0.999 * bound
    assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)


def test_msra_is_normal_with_gluon_cvs_variance():
    kernel = draw("msra")
    std = np.sqrt(2 / (1 + 0.25**2) / ((FAN_IN + FAN_OUT) / 2))
    assert kernel.std() == pytest.approx(std, rel=0.01)
    beyond_two = (np.abs(kernel) > 2 * std).mean()
    assert beyond_two == pytest.approx(0.0455, abs=0.005)


def small(name):
    return create_model(
        name, width=4, num_classes=10, zero_gamma=True, stage_sizes=(1, 2)
    )


@pytest.mark.parametrize("name", ["resnet18d", "resnet50", "resnet50d"])
def test_with_zero_gamma_each_block_is_relu_of_its_shortcut(name):
    model = small(name)
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3))
    variables = model.init(jax.random.key(0), images, train=False)
    _, seen = model.apply(
        variables,
        images,
        train=True,
        mutable=["intermediates", "batch_stats"],
        capture_intermediates=True,
    )
    found = seen["intermediates"]
    blocks = sorted(key for key in found if key.startswith("layer"))
    previous = jax.nn.relu(found["stem"]["__call__"][0])
    for block in blocks:
        shortcut = found[block].get("downsample", {}).get("__call__", [previous])[0]
        previous = found[block]["__call__"][0]
        np.testing.assert_array_equal(previous, jax.nn.relu(shortcut))


@pytest.mark.parametrize(
    ("name", "last"), [("resnet50d", "bn3"), ("resnet50", "bn3"), ("resnet18", "bn2")]
)
def test_zero_gamma_is_the_last_batch_norm_of_each_branch_and_no_other(name, last):
    model = small(name)
    variables = jax.jit(lambda k, x: model.init(k, x, train=False))(
        jax.random.key(0), jnp.zeros((1, 16, 16, 3))
    )
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    scales = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    scales = {path: leaf for path, leaf in scales.items() if "'scale'" in path}
    zero = {path for path, leaf in scales.items() if not leaf.any()}
    blocks = {path.split("'")[1] for path in scales if path.startswith("['layer")}
    assert zero == {f"['{block}']['{last}']['scale']" for block in blocks}
    assert all((leaf == 1).all() for path, leaf in scales.items() if path not in zero)


# (decayed, undecayed) parameters of ResNet-D with 1000 classes.
@pytest.mark.parametrize(
    ("name", "decayed", "free"),
    [
        ("resnet18d", 11_698_016, 10_728),
        ("resnet34d", 21_798_752, 18_152),
        ("resnet50d", 25_522_016, 54_248),
        ("resnet101d", 44_461_920, 106_472),
        ("resnet152d", 60_059_488, 152_552),
    ],
)
def test_no_bias_decay_decays_exactly_the_kernels(name, decayed, free):
    model = create_model(name)
    params = jax.eval_shape(
        lambda key: model.init(key, jnp.zeros((1, 32, 32, 3)), train=False),
        jax.random.key(0),
    )["params"]
    mask = jax.tree.leaves(kernel_mask(params))
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    assert sum(s for s, m in zip(sizes, mask, strict=True) if m) == decayed
    assert sum(s for s, m in zip(sizes, mask, strict=True) if not m) == free


@pytest.mark.parametrize("no_bias_decay", [True, False])
def test_decay_is_added_to_the_gradient_before_the_momentum(no_bias_decay):
    params = {"conv": {"kernel": jnp.full(3, 2.0)}, "bn": {"scale": jnp.full(3, 5.0)}}
    gradient = jax.tree.map(jnp.ones_like, params)
    transform = weight_decay(0.1, no_bias_decay=no_bias_decay)
    got, _ = transform.update(gradient, transform.init(params), params)
    np.testing.assert_allclose(got["conv"]["kernel"], 1.2)
    np.testing.assert_allclose(got["bn"]["scale"], 1.0 if no_bias_decay else 1.5)
