"""What each task is measured in, and where a run's result has it."""

from dataclasses import dataclass

from ml_collections import ConfigDict

CLASSIFICATION = "classification"


@dataclass(frozen=True)
class Metric:
    """A number of the paper's tables.

    Attributes:
        label: how a report names it.
        key: its name in a run's result and evaluations, there as a fraction of 1.
    """

    label: str
    key: str


# By the names in `rtj.study.paper`.
METRICS = {
    "top1": Metric("top-1", "top1"),
    "top5": Metric("top-5", "top5"),
    "mAP": Metric("mAP", "map"),
    "pixAcc": Metric("pixAcc", "pixel_accuracy"),
    "mIoU": Metric("mIoU", "mean_iou"),
}
OF_TASK = {
    CLASSIFICATION: ("top1", "top5"),
    "segmentation": ("pixAcc", "mIoU"),
    "detection": ("mAP",),
}
# What gains and curves are of.
MAIN = {CLASSIFICATION: "top1", "segmentation": "mIoU", "detection": "mAP"}


def labels(task: str) -> list[str]:
    """The labels of a task's metrics, in the tables' order."""
    return [METRICS[name].label for name in OF_TASK[task]]


def main_metric(task: str) -> Metric:
    """The one that a task's gains are of."""
    return METRICS[MAIN[task]]


def result_keys(task: str) -> tuple[str, ...]:
    """What a finished run's result must have, all of them numbers."""
    return ("step", *(METRICS[name].key for name in OF_TASK[task]))


def is_table_row(config: ConfigDict) -> bool:
    """Whether a run is of segmentation or detection and named a row of tables 8 and 9.

    Only the classifier that it starts from tells such a row from another.
    """
    return config.task != CLASSIFICATION and config.name.startswith(f"{config.task}-")
