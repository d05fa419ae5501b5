"""The trick table that a run prints first: what is on, and its value."""

import re

from ml_collections import ConfigDict

from rtj.models import model_options
from rtj.parts import peak_lr

Row = tuple[str, bool, str]


def trick_rows(config: ConfigDict) -> list[Row]:
    """(trick, on, value) for every trick of the paper, in the paper's order.

    What is not the paper's (CutMix, an average of the weights, fine-tuning) has a row
    where it is on. Segmentation and detection have no targets to soften or mix.
    """
    refinements = _refinements(config)
    if config.task != "classification":
        refinements = refinements[:1]
    return _efficient(config) + refinements + _beyond(config)


def _efficient(config: ConfigDict) -> list[Row]:
    """Sections 3 and 4."""
    tricks, model = config.tricks, config.model
    scaling = (
        f"{tricks.base_lr:g} at {tricks.base_batch} -> "
        f"{peak_lr(config):g} at {config.train.batch_size}"
    )
    residual = "zero_gamma" in model_options(model.name)
    last = "last batch norm of each residual branch"
    decayed = "kernels" if tricks.no_bias_decay else "all parameters"
    switches = [model.stride_in, model.stem, model.pooled_shortcut]
    tweaks = ", ".join(str(s) for s in switches if s is not None)
    return [
        ("linear scaling", tricks.linear_scaling, f"learning rate {scaling}"),
        ("warmup", tricks.warmup_epochs > 0, f"{tricks.warmup_epochs:g} epochs"),
        (
            "zero gamma",
            tricks.zero_gamma and residual,
            last if residual else f"{model.name} has no residual branch",
        ),
        (
            "no bias decay",
            tricks.no_bias_decay,
            f"weight decay {tricks.weight_decay:g} on {decayed}",
        ),
        ("low precision", tricks.precision != "fp32", tricks.precision),
        (
            "model tweak",
            bool(re.match(r"[a-z]+\d+[bcds]", model.name) or tweaks),
            f"{model.name} {tweaks}".strip(),
        ),
    ]


def _refinements(config: ConfigDict) -> list[Row]:
    """Section 5."""
    tricks = config.tricks
    return [
        ("cosine", tricks.schedule == "cosine", _schedule(config)),
        (
            "label smoothing",
            tricks.label_smoothing > 0,
            f"eps {tricks.label_smoothing:g}, {tricks.label_smoothing_form} form",
        ),
        ("distillation", tricks.teacher != "", _distillation(config)),
        ("mixup", tricks.mixup > 0, _mixing(config, tricks.mixup)),
    ]


def _beyond(config: ConfigDict) -> list[Row]:
    """What is not the paper's, where it is on."""
    tricks, train = config.tricks, config.train
    covers = "" if tricks.ema_batch_stats else ", not of running statistics"
    frozen = f"{train.frozen_stages} stages" if train.frozen_stages else ""
    norms = "batch norm" if train.freeze_batch_norm else ""
    rows = [
        ("cutmix", tricks.cutmix > 0, _mixing(config, tricks.cutmix)),
        ("average of weights", tricks.ema > 0, f"decay {tricks.ema:g}{covers}"),
        (
            "initial weights",
            train.weights != "",
            f"{train.weights}, {_place_of_weights(config)}",
        ),
        ("frozen", bool(frozen or norms), ", ".join(filter(None, [frozen, norms]))),
    ]
    return [row for row in rows if row[1]]


def _place_of_weights(config: ConfigDict) -> str:
    if config.task != "classification":
        return "in the backbone"
    return f"classifier: {config.train.head}"


def _distillation(config: ConfigDict) -> str:
    tricks = config.tricks
    source = f"from {tricks.teacher}, " if tricks.teacher else ""
    return f"{source}T {tricks.temperature:g}, {tricks.distill_form} form"


def _mixing(config: ConfigDict, alpha: float) -> str:
    off = config.tricks.mixup_off_epochs
    end = f", off in the last {off:g} epochs" if off else ""
    return f"alpha {alpha:g}, a lambda for each {config.tricks.mixup_lambda}{end}"


def _schedule(config: ConfigDict) -> str:
    tricks = config.tricks
    if tricks.schedule == "cosine":
        return "to 0 at the end"
    if tricks.schedule == "poly":
        return f"polynomial decay of power {tricks.poly_power:g}"
    epochs = ", ".join(f"{epoch:g}" for epoch in tricks.step_epochs)
    return f"step decay x{tricks.step_factor:g} at epochs {epochs}"


def format_trick_table(config: ConfigDict) -> str:
    """The rows as aligned text."""
    rows = trick_rows(config)
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(
        f"  {name:<{width}}  {'on ' if on else 'off'}  {value}"
        for name, on, value in rows
    )
