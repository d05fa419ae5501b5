"""What each data set changes in the paper's baseline, and the sizes of its rows.

`imagenet` is the paper itself. `digits` is the same study at the size of a laptop:
its batch of 32 stands for the paper's 256 and 128 for 1024, and its network has one
bottleneck block a stage.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How a study runs on one data set.

    Attributes:
        changes: config fields that differ from the paper's baseline.
        batches: the small and the large batch of the paper's two columns.
        warmup_epochs: length of the warmup where it is on.
        network: the ResNet whose variants are compared.
        bn_groups: batch-norm groups of a batch (the paper's 8 GPUs).
        mixup_epochs: length of a run with mixup, which needs a longer one.
        mixup_step_epochs: where step decay, if it is on, then divides the rate: at
            the same fractions of the run.
        teacher: the network that `distill` learns from.
        distill_changes: config fields that differ in rows with distillation.
        networks: by name of a network, config fields that differ with it.
        images: how many the training split has; None: not known here.
        study_images: training images of each run of a whole study (`rtj.sweep`);
            None: all.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    batches: tuple[int, int] = (256, 1024)
    warmup_epochs: float = 5.0
    network: str = "resnet50"
    bn_groups: int = 8
    mixup_epochs: float = 200.0
    mixup_step_epochs: tuple[float, ...] = (50.0, 100.0, 150.0)
    teacher: str = "resnet152d"
    distill_changes: dict[str, Any] = field(default_factory=dict)
    networks: dict[str, dict[str, Any]] = field(default_factory=lambda: _NETWORKS)
    images: int | None = None
    study_images: int | None = None


# The paper gives Inception-V3 299 pixels but no resize before the centre crop; 342 is
# gluon-cv's.
_NETWORKS: dict[str, dict[str, Any]] = {
    "inception_v3": {"data.image_size": 299, "data.eval_resize": 342}
}


_DIGITS = Recipe(
    changes={
        "model.name": "resnet14",
        "model.width": 16,
        "model.gram_norm": False,  # made for chips that memory holds up
        "tricks.base_batch": 32,
        "tricks.weight_decay": 5e-4,  # 4,000 images need more of it than ImageNet
        # At the paper's 1/4, 1/2 and 3/4 of so short a run the rate falls before
        # the network has learnt.
        "tricks.step_epochs": (12.0, 18.0, 21.0),
        "train.batch_size": 32,
        "train.epochs": 24.0,
        "train.log_every": 25,
        # Twice the images' own size, so that the paper's stem, which divides by 4,
        # leaves something to see; at equal cost a network of width 16 after it beats
        # one of width 8 after a stem without stride.
        "data.image_size": 56,
        "data.eval_resize": 64,
        "data.crop_area": (0.6, 1.0),
        "data.flip": False,  # a mirrored 2 is no digit
        "data.color_jitter": "none",
        "data.pca_noise": 0.0,
        "data.mean": (33.3, 33.3, 33.3),
        "data.std": (78.6, 78.6, 78.6),
        "data.workers": 1,  # 7,400 images/s; two threads: 4,400, they share the GIL
    },
    batches=(32, 128),
    warmup_epochs=1.0,
    network="resnet14",
    bn_groups=1,
    mixup_epochs=40.0,  # 24 times the paper's 200 / 120
    mixup_step_epochs=(20.0, 30.0, 35.0),
    teacher="resnet26d",
    # At T = 20 the soft loss pulls a logit with (z - r) / K, 1 / 10 here and 1 / 1000
    # on ImageNet, however large z has become: on 1,000 images 50 % at the rate of the
    # other rows and 85 % at half of it. At T = 4 the pull has a bound: 96 %.
    distill_changes={"tricks.base_lr": 0.05, "tricks.temperature": 4.0},
    # The smallest image of which Inception-V3 leaves its last pool something.
    networks={"inception_v3": {"data.image_size": 75, "data.eval_resize": 86}},
    images=4000,
    study_images=1000,
)

_SYNTHETIC = Recipe(changes={"train.steps": 1000, "train.log_every": 20})

_IMAGENET = Recipe(images=1_281_167)

_RECIPES = {"imagenet": _IMAGENET, "digits": _DIGITS, "synthetic": _SYNTHETIC}


# The row of `configs/ablation.py` that trains what a row with distillation learns from.
TEACHERS = {"distill": "teacher", "distill_mixup": "teacher_mixup"}


def recipe(data: str) -> Recipe:
    """The recipe of a data set; ImageNet's for all but `digits` and `synthetic`."""
    return _RECIPES.get(data, Recipe())
