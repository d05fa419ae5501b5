"""Tables 1 to 6 of He et al. (arXiv 1812.01187, version 2): ImageNet."""

from rtj.study.paper_types import Row, Table, accuracy

_FLOPS = (
    "ResNet-50 has 3.9G in table 1 and 3.8G in table 5. The paper's FLOPs are "
    "multiply-adds: 3.858 G for ResNet-50, 4.089 for -B, 4.329 for -C and -D."
)
_MOBILENET = (
    "MobileNet's efficient training has a top-5 accuracy of 90.47 in table 3 and 90.53 "
    "in table 6."
)


def _row(
    key: str,
    label: str,
    numbers: tuple[float, float | None],
    argument: str,
    *extras: str,
    stands_on: str = "",
) -> Row:
    return Row(key, label, (accuracy(*numbers, argument),), stands_on, extras)


_RESNEXT, _INCEPTION = "baseline,model=resnext50_32x4d", "baseline,model=inception_v3"
_SERESNET, _SERESNEXT = "baseline,model=seresnet50", "baseline,model=seresnext50_32x4d"
_DENSENET, _MOBILE = "baseline,model=densenet201", "baseline,model=mobilenet"

TABLE1 = Table(
    number=1,
    title="Networks of about the same cost",
    extras=("FLOPs",),
    rows=(
        _row("resnet50", "ResNet-50", (75.3, 92.2), "baseline", "3.9G"),
        _row("resnext50", "ResNeXt-50", (77.8, None), _RESNEXT, "4.2G"),
        _row("seresnet50", "SE-ResNet-50", (76.71, 93.38), _SERESNET, "3.9G"),
        _row("seresnext50", "SE-ResNeXt-50", (78.90, 94.51), _SERESNEXT, "4.3G"),
        _row("densenet201", "DenseNet-201", (77.42, 93.66), _DENSENET, "4.3G"),
        _row(
            "tricks",
            "ResNet-50 + tricks",
            (79.29, 94.63),
            "distill_mixup",
            "4.3G",
            stands_on="resnet50",
        ),
    ),
    notes=(
        "The paper quotes all rows but the last from elsewhere, each with its own "
        "training; here they run with the paper's baseline.",
        _FLOPS,
    ),
)

TABLE2 = Table(
    number=2,
    title="The baseline against reference implementations",
    extras=("reference top-1 / top-5",),
    rows=(
        _row("resnet50", "ResNet-50", (75.87, 92.70), "baseline", "75.3 / 92.2"),
        _row("inception_v3", "Inception-V3", (77.32, 93.43), _INCEPTION, "78.8 / 94.4"),
        _row("mobilenet", "MobileNet", (69.03, 88.71), _MOBILE, "70.6 / -"),
    ),
)


def _pair3(
    key: str,
    label: str,
    baseline: tuple[float, float, str, str],
    efficient: tuple[float, float, str, str],
) -> tuple[Row, Row]:
    """(top-1, top-5, argument, time per epoch) of a network without and with."""
    low = _row(key, f"{label}, baseline", baseline[:2], *baseline[2:])
    high = _row(
        f"{key}_efficient",
        f"{label}, efficient",
        efficient[:2],
        *efficient[2:],
        stands_on=key,
    )
    return low, high


TABLE3 = Table(
    number=3,
    title="Efficient training (batch 1024, FP16) against the baseline (256, FP32)",
    extras=("time per epoch",),
    rows=(
        *_pair3(
            "resnet50",
            "ResNet-50",
            (75.87, 92.70, "baseline", "13.3 min"),
            (76.21, 92.97, "low_precision", "4.4 min"),
        ),
        *_pair3(
            "inception_v3",
            "Inception-V3",
            (77.32, 93.43, _INCEPTION, "19.8 min"),
            (77.50, 93.60, "efficient,model=inception_v3", "8 min"),
        ),
        *_pair3(
            "mobilenet",
            "MobileNet",
            (69.03, 88.71, _MOBILE, "6.2 min"),
            (71.90, 90.47, "efficient,model=mobilenet", "3.7 min"),
        ),
    ),
    notes=(
        "The paper's times are of 8 V100.",
        "The caption names ResNet-50 only; the table holds three networks.",
        _MOBILENET,
    ),
)


def _row4(
    argument: str,
    label: str,
    small: tuple[float, float],
    large: tuple[float, float],
    stands_on: str = "",
) -> Row:
    cells = (accuracy(*small, f"{argument},batch=small"), accuracy(*large, argument))
    return Row(argument, label, cells, stands_on)


TABLE4 = Table(
    number=4,
    title="The heuristics of efficient training one by one, ResNet-50",
    columns=("BS=256", "BS=1024"),
    rows=(
        _row4("linear_scaling", "Linear scaling", (75.87, 92.70), (75.17, 92.54)),
        _row4(
            "warmup", "+ LR warmup", (76.03, 92.81), (75.93, 92.84), "linear_scaling"
        ),
        _row4("zero_gamma", "+ Zero γ", (76.19, 93.03), (76.37, 92.96), "warmup"),
        _row4(
            "no_bias_decay",
            "+ No bias decay",
            (76.16, 92.97),
            (76.03, 92.86),
            "zero_gamma",
        ),
        _row4(
            "low_precision",
            "+ FP16",
            (76.15, 93.09),
            (76.21, 92.97),
            "no_bias_decay",
        ),
    ),
    notes=(
        "At batch 256 linear scaling changes nothing: its rate is the baseline's 0.1, "
        "and so are the paper's numbers.",
    ),
)

TABLE5 = Table(
    number=5,
    title="ResNet-50 and three tweaks of it",
    extras=("parameters", "FLOPs"),
    rows=(
        _row("resnet50", "ResNet-50", (76.21, 92.97), "resnet50", "25M", "3.8G"),
        _row(
            "resnet50b",
            "ResNet-50-B",
            (76.66, 93.28),
            "resnet50b",
            "25M",
            "4.1G",
            stands_on="resnet50",
        ),
        _row(
            "resnet50c",
            "ResNet-50-C",
            (76.87, 93.48),
            "resnet50c",
            "25M",
            "4.3G",
            stands_on="resnet50b",
        ),
        _row(
            "resnet50d",
            "ResNet-50-D",
            (77.16, 93.52),
            "resnet50d",
            "25M",
            "4.3G",
            stands_on="resnet50c",
        ),
    ),
    notes=(
        _FLOPS,
        "The text on ResNet-C gives the first and the second convolution of the stem a "
        "stride of 2; figure 2b gives it to the first only, and so does rtj.",
        "ResNet-50-B has 76.66 here, B-standard 76.14 in tables 8 and 9: another "
        "training.",
    ),
)

_NETWORKS6 = ("", ",model=inception_v3", ",model=mobilenet")


def _row6(
    argument: str, label: str, stands_on: str, *numbers: tuple[float, float]
) -> Row:
    cells = tuple(
        accuracy(*pair, argument + network)
        for pair, network in zip(numbers, _NETWORKS6, strict=True)
    )
    return Row(argument, label, cells, stands_on)


TABLE6 = Table(
    number=6,
    title="Refinements of training",
    columns=("ResNet-50-D", "Inception-V3", "MobileNet"),
    rows=(
        _row6(
            "efficient", "Efficient", "", (77.16, 93.52), (77.50, 93.60), (71.90, 90.53)
        ),
        _row6(
            "cosine",
            "+ cosine decay",
            "efficient",
            (77.91, 93.81),
            (78.19, 94.06),
            (72.83, 91.00),
        ),
        _row6(
            "label_smoothing",
            "+ label smoothing",
            "cosine",
            (78.31, 94.09),
            (78.40, 94.13),
            (72.93, 91.14),
        ),
        _row6(
            "distill",
            "+ distill w/o mixup",
            "label_smoothing",
            (78.67, 94.36),
            (78.26, 94.01),
            (71.97, 90.89),
        ),
        _row6(
            "mixup",
            "+ mixup w/o distill",
            "label_smoothing",
            (79.15, 94.58),
            (78.77, 94.39),
            (73.28, 91.30),
        ),
        _row6(
            "distill_mixup",
            "+ distill w/ mixup",
            "mixup",
            (79.29, 94.63),
            (78.34, 94.16),
            (72.51, 91.02),
        ),
    ),
    notes=(
        "No pure stack: distillation without mixup and mixup without distillation both "
        "stand on label smoothing.",
        _MOBILENET,
        "Label smoothing has 78.31 here and 78.34 in tables 8 and 9; mixup without "
        "distillation 79.15 here and 79.16 there.",
        "Inception-V3 and MobileNet lose with the ResNet-152-D teacher; the paper "
        "blames the other family of networks.",
        "In equation 3 p and q are swapped inside the sum, and equation 4 writes the "
        "smoothed truth as q although it is p.",
    ),
)
