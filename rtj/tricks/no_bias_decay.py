"""No bias decay (paper section 3.1).

Weight decay acts on the kernels of convolutions and dense layers only; biases
and batch norm's gamma and beta go free. The decay is coupled: wd * w is added to
the gradient before the momentum, as MXNet and PyTorch's SGD do.

In the wild: rules such as "more than one dimension" or a name suffix were broken
by refactorings (ServiceNow/Fast-LLM#545); the rule here is the parameter's own
name in Flax, `kernel`, and a test holds the counts of the decayed set.
"""

from typing import Any

import jax
import optax


def kernel_mask(params: Any) -> Any:
    """A tree of bools like `params`: True for convolution and dense kernels."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key == "kernel", params
    )


def weight_decay(rate: float, *, no_bias_decay: bool) -> optax.GradientTransformation:
    """Adds rate * w to the gradient, of kernels only if `no_bias_decay`."""
    return optax.add_decayed_weights(rate, kernel_mask if no_bias_decay else None)
