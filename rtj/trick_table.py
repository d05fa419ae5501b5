"""The trick table that a run prints first: what is on, and its value."""

import re

from ml_collections import ConfigDict

from rtj.models import model_options
from rtj.parts import peak_lr

Row = tuple[str, bool, str]


def trick_rows(config: ConfigDict) -> list[Row]:
    """(trick, on, value) for every trick of the paper, in the paper's order.

    CutMix and the average of the weights, which are not the paper's, have a row where
    they are on.
    """
    tricks, model, train = config.tricks, config.model, config.train
    low = tricks.precision != "fp32"
    residual = "zero_gamma" in model_options(model.name)
    scaling = (
        f"{tricks.base_lr:g} at {tricks.base_batch} -> "
        f"{peak_lr(config):g} at {train.batch_size}"
    )
    switches = [model.stride_in, model.stem, model.pooled_shortcut]
    tweaks = ", ".join(str(s) for s in switches if s is not None)
    rows = [
        ("linear scaling", tricks.linear_scaling, f"learning rate {scaling}"),
        ("warmup", tricks.warmup_epochs > 0, f"{tricks.warmup_epochs:g} epochs"),
        (
            "zero gamma",
            tricks.zero_gamma and residual,
            "last batch norm of each residual branch"
            if residual
            else f"{model.name} has no residual branch",
        ),
        (
            "no bias decay",
            tricks.no_bias_decay,
            f"weight decay {tricks.weight_decay:g} on "
            + ("kernels" if tricks.no_bias_decay else "all parameters"),
        ),
        ("low precision", low, tricks.precision),
        (
            "model tweak",
            bool(re.match(r"[a-z]+\d+[bcds]", model.name) or tweaks),
            f"{model.name} {tweaks}".strip(),
        ),
        ("cosine", tricks.schedule == "cosine", _schedule(config)),
        (
            "label smoothing",
            tricks.label_smoothing > 0,
            f"eps {tricks.label_smoothing:g}, {tricks.label_smoothing_form} form",
        ),
        ("distillation", tricks.teacher != "", _distillation(config)),
        ("mixup", tricks.mixup > 0, _mixing(config, tricks.mixup)),
    ]
    if tricks.cutmix > 0:
        rows.append(("cutmix", True, _mixing(config, tricks.cutmix)))
    if tricks.ema > 0:
        covers = "" if tricks.ema_batch_stats else ", not of running statistics"
        rows.append(("average of weights", True, f"decay {tricks.ema:g}{covers}"))
    return rows


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
