"""Mixup (paper section 5.4, equations 7 and 8), and CutMix, which is beyond it.

Each example is replaced by a mixture with another one, lambda ~ Beta(alpha, alpha),
alpha = 0.2 (not lambda = 0.2, as some retellings have it):

    x = lambda x_i + (1 - lambda) x_j
    y = lambda y_i + (1 - lambda) y_j

Only mixtures are trained on, and for longer: 200 epochs instead of 120.

Here x is what augmentation gives, normalised: mixing last makes the mixture the very
tensor that the network sees (and that a teacher must be shown). For mixup alone the
place does not matter, since normalisation is affine and the weights sum to 1.
y is smoothed first. Smoothing (both forms) is affine too, so smoothing the mixed label
would give the same: off + (on - off) (lambda [k = i] + (1 - lambda) [k = j]).

The partner of row i in its batch-norm group of g rows is row g - 1 - i: an exchange
that needs no communication where groups fit a device, and is the same exchange
however many devices share the group. lambda depends on (seed, step) or on (seed, step,
example index), on nothing else.

In the wild: gluon-cv does the above, with one lambda for all GPUs and a device's share
of the batch as the group. The code of Zhang et al. takes a random permutation, and
mixes losses, which for cross-entropy is the same as mixing labels. fastai takes
max(lambda, 1 - lambda), one an example; timm's `Mixup` smooths by 0.1 unless told
otherwise, so that a smoothed label is smoothed again.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

LambdaPer = Literal["step", "example"]


@dataclass(frozen=True)
class Mixing:
    """How a batch is mixed.

    Attributes:
        mixup, cutmix: alpha of each, 0 is off. With both on, a fair coin decides
            which it is, drawn as often as lambda is.
        per: whether a `step` or an `example` has a lambda of its own.
        group_size: rows within which partners are found, 0 for the whole batch.
        stop_step: this step and those after it are not mixed.
    """

    mixup: float
    cutmix: float
    per: LambdaPer
    group_size: int
    stop_step: int


def lambda_keys(
    key: jax.Array,
    step: jax.Array,
    index: jax.Array,
    copy: jax.Array | None,
    per: LambdaPer,
) -> jax.Array:
    """One key for each lambda: (1,), or (B,) with a lambda an example.

    Args:
        key: of the run, for mixing alone.
        step: int32 scalar.
        index: (B,) int32, dataset index of each example.
        copy: (B,) int32, number of an example's repetition, if they are repeated.
    """
    key = jax.random.fold_in(key, step)
    if per == "step":
        return key[None]
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    return keys if copy is None else jax.vmap(jax.random.fold_in)(keys, copy)


def mix(
    images: jax.Array,
    targets: jax.Array,
    labels: jax.Array,
    keys: jax.Array,
    step: jax.Array,
    mixing: Mixing,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mixes a batch with its partners.

    Args:
        images: (B, H, W, C) float32, augmented and normalised.
        targets: (B, K) float32 distributions, smoothed.
        labels: (B,) int32.
        keys: of `lambda_keys`.
        step: int32 scalar, decides whether this is before `mixing.stop_step`.

    Returns:
        Mixed images and targets of the same shapes, float32, and for each row the
        label with the larger share (its own at exactly one half).
    """
    _, height, width, _ = images.shape
    weight, share = jax.vmap(lambda k: _weight(k, step, height, width, mixing))(keys)

    def partner(rows: jax.Array) -> jax.Array:
        return reverse_groups(rows, mixing.group_size)

    images = weight * images + (1 - weight) * partner(images)
    column = share[:, None]
    targets = column * targets + (1 - column) * partner(targets)
    return images, targets, jnp.where(share >= 0.5, labels, partner(labels))


def reverse_groups(rows: jax.Array, group_size: int) -> jax.Array:
    """(B, ...) with each run of `group_size` rows (0: all B) in reverse order."""
    groups = rows.reshape(-1, group_size or rows.shape[0], *rows.shape[1:])
    return groups[:, ::-1].reshape(rows.shape)


def symmetric_beta(key: jax.Array, alpha: jax.Array | float) -> jax.Array:
    """One draw from Beta(alpha, alpha), alpha > 0; float32 in [0, 1].

    Bailey's polar method makes a Student t of 2 alpha degrees of freedom from two
    uniform numbers, and (1 + t / sqrt(2 alpha + t^2)) / 2 has this distribution
    (Devroye 1996, "Random variate generation in one line of code"). jax.random.beta
    rejects draws in a loop: with a lambda an example, devices that share a batch
    then wait for each other (four all-reduces), and it takes 1.3 s more to compile.
    """
    u, v = jax.random.uniform(key, (2,))
    cosine = jnp.cos(2 * jnp.pi * v)
    ratio = jnp.expm1(-jnp.log1p(-u) / alpha) * jnp.square(cosine)  # t^2 / (2 alpha)
    return (1 + jnp.sign(cosine) / jnp.sqrt(1 + 1 / ratio)) / 2


def _weight(
    key: jax.Array, step: jax.Array, height: int, width: int, mixing: Mixing
) -> tuple[jax.Array, jax.Array]:
    """Weight of an image's own pixels, (H, W, 1) or (1, 1, 1), and of its label, ()."""
    coin_key, lambda_key, box_key = jax.random.split(key, 3)
    cut: jax.Array | bool = mixing.cutmix > 0
    if mixing.mixup > 0 and mixing.cutmix > 0:
        cut = jax.random.bernoulli(coin_key)
    lam = symmetric_beta(lambda_key, jnp.where(cut, mixing.cutmix, mixing.mixup))
    lam = jnp.where(step < mixing.stop_step, lam, 1.0)
    if mixing.cutmix == 0:
        return lam.reshape(1, 1, 1), lam
    outside = 1 - cutmix_box(box_key, lam, height, width)
    weight = jnp.where(cut, outside, lam)
    return weight[..., None], jnp.where(cut, outside.mean(), lam)


def cutmix_box(key: jax.Array, lam: jax.Array, height: int, width: int) -> jax.Array:
    """CutMix's box (Yun et al. 2019, arXiv 1905.04899): (H, W) float32, 1 inside.

    Its sides are sqrt(1 - lambda) of the image's, rounded down, its centre is uniform
    over the image, and what hangs over the border is cut off: the label's share must
    be counted from the mask. At lambda = 1 it is empty. The authors' code halves the
    sides before it adds them to the centre, so theirs are even numbers.
    """

    def inside(key: jax.Array, size: int) -> jax.Array:
        side = jnp.floor(size * jnp.sqrt(1 - lam)).astype(jnp.int32)
        low = jax.random.randint(key, (), 0, size) - side // 2
        place = jnp.arange(size)
        return (low <= place) & (place < low + side)

    row_key, column_key = jax.random.split(key)
    rows, columns = inside(row_key, height), inside(column_key, width)
    return (rows[:, None] & columns[None, :]).astype(jnp.float32)
