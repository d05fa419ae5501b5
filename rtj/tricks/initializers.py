"""Weight initialisation (paper section 2.1).

The paper draws convolution and dense kernels from Xavier's uniform distribution
on [-a, a] with a = sqrt(6 / (d_in + d_out)); biases and beta start at 0, gamma
at 1. Its text calls d_in and d_out channel counts, MXNet's Xavier multiplies
them by the kernel area, and so does this file.

In the wild: gluon-cv's `train_imagenet.py` uses `MSRAPrelu` instead, a normal
with variance (2 / (1 + 0.25^2)) / mean(fan_in, fan_out), and torchvision a
normal with variance 2 / fan_out.
"""

from flax import linen as nn
from jax.nn.initializers import Initializer, variance_scaling

from rtj.errors import unknown

INITIALIZERS = ("xavier", "msra")


def kernel_initializer(name: str) -> Initializer:
    """`xavier` (the paper) or `msra` (gluon-cv), for kernels (..., in, out)."""
    if name == "xavier":
        return nn.initializers.xavier_uniform()
    if name == "msra":
        return variance_scaling(2 / (1 + 0.25**2), "fan_avg", "normal")
    raise unknown("initializer", name, INITIALIZERS)
