"""Zero gamma (paper section 3.1, "Zero gamma").

The last batch norm of every residual branch starts with gamma = 0, so that at
the start each block returns relu(shortcut(x)) and the network behaves like a
shallower one. All other gammas start at 1, those on the shortcut too.

In the wild: gluon-cv zeroes only bottleneck blocks (its `BasicBlockV1b` swallows
`last_gamma`), and circulating notes zero every gamma or beta as well. Here basic
and bottleneck blocks are treated alike, which is what the paper's sentence says.
"""

from flax import linen as nn
from jax.nn.initializers import Initializer


def last_gamma_initializer(zero_gamma: bool) -> Initializer:
    """Initialiser of the scale of a residual branch's last batch norm."""
    return nn.initializers.zeros if zero_gamma else nn.initializers.ones
