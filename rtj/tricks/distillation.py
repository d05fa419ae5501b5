"""Knowledge distillation (paper section 5.3, equation 6).

A student with logits z learns from the label and from a teacher with logits r:

    loss = CE(p, softmax(z)) + T^2 CE(softmax(r / T), softmax(z / T)),   T = 20

p is the smoothed (and mixed) label. The gradient with respect to z is

    (softmax(z) - p) + T (softmax(z / T) - softmax(r / T)):

T^2 makes up for the 1 / T^2 by which the soft term's gradient shrinks, so that for
large T it no longer depends on T: it is then ((z - mean z) - (r - mean r)) / K. The
paper's teacher is a ResNet-152-D trained with cosine decay and label smoothing, and
with mixup where the student has it; it is shown the very images that the student is,
with its running statistics, and has no gradient.

In the wild: gluon-cv takes half of each term (`form="average"`, `hard_weight` 0.5),
which is exactly half of the paper's loss. Many codes leave T^2 out, or take PyTorch's
`kl_div` with `reduction="mean"`, which divides by the number of classes too. The
cross-entropy and the divergence KL(softmax(r / T) || softmax(z / T)) differ by the
teacher's entropy, which has no gradient.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import linen as nn

from rtj.errors import unknown
from rtj.tricks.label_smoothing import cross_entropy
from rtj.tricks.low_precision import Policy, matmul_precision

DistillationForm = Literal["paper", "average"]
FORMS: tuple[str, ...] = get_args(DistillationForm)


def distillation_loss(
    logits: jax.Array,
    teacher_logits: jax.Array,
    targets: jax.Array,
    temperature: float = 20.0,
    form: DistillationForm = "paper",
) -> jax.Array:
    """The loss of each example, float32 (...,).

    Args:
        logits, teacher_logits: (..., K), any float dtype; no gradient reaches the
            teacher.
        targets: (..., K) float32 distributions, smoothed and mixed.
        temperature: T > 0.
        form: `paper` adds the two terms, `average` takes half of each.

    Raises:
        ConfigError: an unknown form.
    """
    if form not in FORMS:
        raise unknown("form", form, FORMS)
    teacher_logits = jax.lax.stop_gradient(teacher_logits)
    soft = jax.nn.softmax(teacher_logits.astype(jnp.float32) / temperature)
    student = logits.astype(jnp.float32) / temperature
    both = cross_entropy(logits, targets) + temperature**2 * cross_entropy(
        student, soft
    )
    return both if form == "paper" else both / 2


@dataclass(frozen=True)
class Distillation:
    """The static half of a teacher; the other half are the arrays that it needs.

    Attributes:
        temperature, form: of `distillation_loss`.
        model: its network, whose arrays are its variables; None looks its logits up in
            an array (examples, K) by each example's index.
        policy: its precision.
        scale, shift: what makes of an image normalised for the student one normalised
            for the teacher, `scale * image + shift`, a number a channel.
    """

    temperature: float
    form: DistillationForm
    model: nn.Module | None
    policy: Policy
    scale: tuple[float, ...] = (1.0, 1.0, 1.0)
    shift: tuple[float, ...] = (0.0, 0.0, 0.0)

    def losses(
        self,
        logits: jax.Array,
        targets: jax.Array,
        images: jax.Array,
        index: jax.Array,
        teacher: Any,
    ) -> jax.Array:
        """The loss of each example, float32 (B,).

        Args:
            logits, targets: (B, K), see `distillation_loss`.
            images: (B, H, W, 3) float32, what the student was shown.
            index: (B,) int32, dataset index of each example.
            teacher: the teacher's arrays.
        """
        shown = self.logits(images, index, teacher)
        return distillation_loss(logits, shown, targets, self.temperature, self.form)

    def logits(self, images: jax.Array, index: jax.Array, teacher: Any) -> jax.Array:
        """The teacher's, float32 (B, K), with its running statistics."""
        if self.model is None:
            return teacher[index]
        scale, shift = jnp.asarray(self.scale), jnp.asarray(self.shift)
        with matmul_precision(self.policy):
            logits: Any = self.model.apply(teacher, scale * images + shift, train=False)
        return logits
