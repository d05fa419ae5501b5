"""The classifiers that runs of segmentation and detection start from."""

from pathlib import Path

from rtj.errors import DataError
from rtj.study.collect import Setting
from rtj.study.lines import show
from rtj.study.load import LoadedRun, load_run
from rtj.study.metrics import CLASSIFICATION
from rtj.study.statistics import measure


def classifier_top1(setting: Setting) -> str:
    """Top-1 of the classifiers in per cent, and on which data if not on ImageNet.

    Only workdirs of finished runs have one; it is "" where any of the setting's weights
    are a file or have a name, and where their workdir is not below this folder any
    more.
    """
    paths = dict.fromkeys(run.config.train.weights for run in setting.runs)
    found = [_classifier(path) for path in paths]
    values = [100 * run.result["top1"] for run in found if run and run.result]
    value = measure(values)
    if value is None or len(values) < len(paths):
        return ""
    data = dict.fromkeys(run.config.data.name for run in found if run)
    return show(value) + ("" if list(data) == ["imagenet"] else f" ({', '.join(data)})")


def _classifier(path: str) -> LoadedRun | None:
    try:
        run = load_run(path) if path and Path(path).is_dir() else None
    except DataError:
        return None  # the folder of something else, such as a model of the hub
    return run if run is not None and run.config.task == CLASSIFICATION else None
