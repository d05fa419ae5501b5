"""Tables 7 to 9 of He et al. (arXiv 1812.01187, version 2): transfer learning."""

from rtj.study.paper_types import Cell, Row, Table, accuracy

# The data of tables 7, 8 and 9.
PLACES365, PASCAL_VOC, ADE20K = "tfds:places365_small", "voc", "ade20k"

TABLE7 = Table(
    number=7,
    title="MIT Places365, ResNet-50-D",
    columns=("validation", "test"),
    rows=(
        Row(
            "efficient",
            "Efficient",
            (
                accuracy(56.34, 86.87, "transfer:places365,recipe=efficient"),
                accuracy(57.18, 87.28),
            ),
        ),
        Row(
            "best",
            "Best",
            (
                accuracy(56.70, 87.33, "transfer:places365,recipe=best"),
                accuracy(57.63, 87.82),
            ),
            "efficient",
        ),
    ),
    notes=(
        "Best is cosine decay, label smoothing and mixup, without distillation.",
        "The labels of the test set are not public; the paper's server is needed.",
    ),
)

_NOTES = (
    "B-standard's 76.14 on ImageNet is not table 5's ResNet-50-B, 76.66.",
    "Label smoothing has 78.34 on ImageNet here and 78.31 in table 6; mixup without "
    "distillation 79.16 here and 79.15 there.",
)
# (key, stands on, label in table 8, top-1 on ImageNet); table 9's labels are the same
# but for the last.
_NETWORKS = (
    ("b_standard", "", "B-standard", 76.14),
    ("d_efficient", "b_standard", "D-efficient", 77.16),
    ("cosine", "d_efficient", "+ cosine", 77.91),
    ("smooth", "cosine", "+ smooth", 78.34),
    ("distill", "smooth", "+ distill w/o mixup", 78.67),
    ("mixup", "smooth", "+ mixup w/o distill", 79.16),
    ("distill_mixup", "mixup", "+ distill w/ mixup", 79.29),
)
_MAP = (77.54, 78.30, 79.23, 80.71, 80.96, 81.10, 81.33)
_SEGMENTATION = (
    (78.08, 37.05),
    (78.88, 38.88),
    (79.25, 39.33),
    (78.64, 38.75),
    (78.97, 38.90),
    (78.47, 37.99),
    (78.72, 38.40),
)

TABLE8 = Table(
    number=8,
    title="Faster-RCNN on Pascal VOC 2007 test",
    metrics=("top1", "mAP"),
    task="detection",
    rows=tuple(
        Row(
            key,
            label,
            (Cell({"top1": top1, "mAP": value}, f"detection:{PASCAL_VOC},row={key}"),),
            parent,
        )
        for (key, parent, label, top1), value in zip(_NETWORKS, _MAP, strict=True)
    ),
    notes=_NOTES,
)

TABLE9 = Table(
    number=9,
    title="FCN on ADE20K",
    metrics=("top1", "pixAcc", "mIoU"),
    task="segmentation",
    rows=tuple(
        Row(
            key,
            "+ mixup w/ distill" if key == "distill_mixup" else label,
            (
                Cell(
                    {"top1": top1, "pixAcc": pixels, "mIoU": overlap},
                    f"segmentation:{ADE20K},row={key}",
                ),
            ),
            parent,
        )
        for (key, parent, label, top1), (pixels, overlap) in zip(
            _NETWORKS, _SEGMENTATION, strict=True
        )
    ),
    notes=(
        *_NOTES,
        "Only cosine decay helps here; label smoothing, distillation and mixup have "
        "less than it.",
    ),
)
