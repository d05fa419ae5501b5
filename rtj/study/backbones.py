"""The weights that a sweep's rows of tables 8 and 9 start from: `--backbones`."""

from collections.abc import Sequence
from pathlib import Path

from rtj.errors import ConfigError
from rtj.study.cells import on_data, task_of
from rtj.study.metrics import CLASSIFICATION
from rtj.weights.hub import is_hub_name
from rtj.weights.run_folder import is_run_folder

RANDOM = "none"
_ROW = "{row}"
_BUILT_IN = "scenes"


def row_of(argument: str) -> str:
    """`"cosine"` of `"detection:voc,row=cosine"`."""
    return argument.partition("row=")[2].partition(",")[0]


def started(argument: str, data: str, backbones: str) -> str:
    """The argument of a cell on `data` ("": the paper's), with its weights.

    Args:
        backbones: the weights of all rows, or a path with `{row}` in it; `none`:
            random ones.
    """
    argument = on_data(argument, data or data_of(argument))
    if backbones == RANDOM:
        return argument
    return f"{argument},weights={backbones.replace(_ROW, row_of(argument))}"


def data_of(argument: str) -> str:
    """`"voc"` of `"detection:voc,row=cosine"`."""
    return argument.partition(":")[2].partition(",")[0]


def check_backbones(found: Sequence[str], data: str, backbones: str) -> None:
    """Raise ConfigError where the cells `found` need weights that are not there.

    Or if backbones are given and no cell takes any.
    """
    rows = {row_of(a): a for a in found if task_of(a) != CLASSIFICATION}
    if not rows:
        if backbones:
            raise ConfigError(
                f"--backbones={backbones} is for tables 8 and 9, and no row of these "
                "is run"
            )
        return
    if not backbones:
        raise ConfigError(
            f"--backbones is missing: rows {', '.join(rows)} start from weights of "
            f"classifiers; allowed: a path with {_ROW} in it, as runs/{_ROW}; one path "
            f"or timm:NAME or torchvision:NAME for all; {RANDOM}, random weights, with "
            f"--data={_BUILT_IN}"
        )
    if backbones == RANDOM:
        if any((data or data_of(argument)) != _BUILT_IN for argument in rows.values()):
            raise ConfigError(
                f"--backbones={RANDOM} is allowed with --data={_BUILT_IN} only: the "
                "paper's rows differ in nothing but their weights"
            )
        return
    paths = {row: backbones.replace(_ROW, row) for row in rows}
    missing = [f"{row} ({p}: {why})" for row, p in paths.items() if (why := _lacks(p))]
    if missing:
        raise ConfigError(
            f"--backbones={backbones} has no weights for rows {', '.join(missing)}"
        )


def _lacks(weights: str) -> str:
    """Why weights cannot be there; "" if they may be."""
    path = Path(weights)
    if is_hub_name(weights):
        return ""
    if not path.exists():
        return "there is no such file or folder"
    if (path / "config.json").is_file() and (path / "starts.jsonl").is_file():
        return "" if is_run_folder(path) else "a run that has not saved a checkpoint"
    return "" if path.is_file() or any(path.iterdir()) else "an empty folder"
