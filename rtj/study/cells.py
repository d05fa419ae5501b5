"""The configs of the paper's cells, for the data set that runs are on."""

from functools import cache

from ml_collections import ConfigDict

from rtj.config_args import get_config
from rtj.study.metrics import CLASSIFICATION, OF_TASK

# Stand for a teacher and for weights, which no two runs need have in common.
_TEACHER, _WEIGHTS = "TEACHER", "WEIGHTS"


def task_of(argument: str) -> str:
    """The task of a cell's argument: its file's name, if that is one of a task."""
    file = argument.partition(":")[0]
    return file if file in OF_TASK else CLASSIFICATION


def names_its_data(argument: str) -> bool:
    """Whether a cell is of one data set only, as those of table 7 are."""
    return ":" in argument and task_of(argument) == CLASSIFICATION


def on_data(argument: str, data: str) -> str:
    """A cell's argument of segmentation or detection, for another data set."""
    file, _, words = argument.partition(":")
    return f"{file}:{','.join([data, *words.split(',')[1:]])}"


def cell_config(argument: str, data: str) -> ConfigDict:
    """The config of a cell on `data`, which must be of its task; none is opened.

    For most cells `configs/ablation.py:ARGUMENT,data=DATA`. A PATH of data is left out,
    as recipes do not depend on it, and teachers and weights are named for rows that
    need them.
    """
    kind, _, path = data.partition(":")
    if (kind in ("folder", "tar") and path) or "," in path:
        data = f"{kind}:PATH"
    return _cell_config(argument, data)


def paper_config(argument: str) -> ConfigDict:
    """The config of a cell on the paper's own data."""
    if ":" in argument:
        return cell_config(argument, argument.partition(":")[2].split(",")[0])
    return cell_config(argument, "imagenet")


@cache
def _cell_config(argument: str, data: str) -> ConfigDict:
    if task_of(argument) != CLASSIFICATION:
        return get_config(f"{on_data(argument, data)},weights={_WEIGHTS}").lock()
    if names_its_data(argument):
        return get_config(argument).lock()
    teacher = f",teacher={_TEACHER}" if argument.startswith("distill") else ""
    return get_config(f"ablation:{argument}{teacher},data={data}").lock()
