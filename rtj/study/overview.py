"""What was run, from the runs' configs, results and starts."""

from collections.abc import Iterable, Sequence
from typing import Any

from rtj.study.collect import DataGroup
from rtj.study.document import Block, Facts, Heading, Text, plural
from rtj.study.find import Unreadable
from rtj.study.load import LoadedRun
from rtj.study.metrics import CLASSIFICATION, main_metric
from rtj.study.paper_transfer import ADE20K, PASCAL_VOC, PLACES365

# What the paper's columns of a task are of, and the data sets that are that.
_PAPERS = {
    CLASSIFICATION: ("ImageNet", ("imagenet", PLACES365)),
    "segmentation": ("ADE20K", (ADE20K,)),
    "detection": ("Pascal VOC", (PASCAL_VOC,)),
}


def header_blocks(
    runs: Sequence[LoadedRun], unreadable: Sequence[Unreadable]
) -> list[Block]:
    """The report's title, what it holds and where it was computed."""
    starts = [start for run in runs for start in run.starts]
    pairs = [
        ("Runs", _runs(runs, unreadable)),
        ("Seeds", _some(sorted({run.config.seed for run in runs}))),
        ("Started", _span(starts)),
        ("Hardware", _some(map(_hardware, starts))),
        ("Commit of rtj", _some(start.get("git_commit") for start in starts)),
        ("Versions", _versions(starts)),
    ]
    return [
        Heading(1, "A bag of tricks, run again"),
        Text(
            "Runs of rtj beside the tables of He et al., Bag of Tricks for Image "
            "Classification with Convolutional Neural Networks (arXiv 1812.01187). "
            "Scores are in per cent: of several seeds the mean ± the sample "
            f"standard deviation. A gain is of {_gained(runs)}, in points over the row "
            "compared with, ± its standard error where both have two runs or more."
        ),
        Facts(tuple(pairs)),
    ]


def data_blocks(group: DataGroup) -> list[Block]:
    """The heading and the facts of one data set's runs."""
    runs = group.runs
    held_out = {run.result.get("examples") for run in runs if run.result}
    pairs = [
        ("Runs", _runs(runs)),
        ("Training images", _split(group.train_split, map(_train_images, runs))),
        ("Held-out images", _split(group.eval_split, held_out)),
        ("Image size", _some(map(_image_size, runs), " pixels")),
        ("Networks", _some(run.config.model.name for run in runs)),
        ("Batch", _some(sorted({run.config.train.batch_size for run in runs}))),
        ("Epochs", _some(map(_epochs, runs))),
    ]
    blocks: list[Block] = [Heading(2, _title(group)), Facts(tuple(pairs))]
    name, same = _PAPERS[group.task]
    if group.name not in same:
        blocks.append(
            Text(
                f"The paper's columns are of {name}, and these runs are not: only the "
                "signs of the gains can be compared, not the scores."
            )
        )
    return blocks


def _title(group: DataGroup) -> str:
    """The data set, and what tells it from another group of the same."""
    parts = [f"Data: {group.name}"]
    if group.task != CLASSIFICATION:
        parts.append(group.task)
    if group.train_split != "train":
        parts.append(group.train_split)
    if group.eval_split:
        parts.append(f"held out {group.eval_split}")
    if group.image_size is not None:
        parts.append(f"{group.image_size} pixels")
    return ", ".join(parts)


def _runs(runs: Sequence[LoadedRun], unreadable: Sequence[Unreadable] = ()) -> str:
    done = sum(run.finished for run in runs)
    parts = [f"{done} finished"]
    if done < len(runs):
        parts.append(f"{len(runs) - done} unfinished")
    if unreadable:
        parts.append(f"{plural(len(unreadable), 'folder')} could not be read")
    return ", ".join(parts)


def _gained(runs: Sequence[LoadedRun]) -> str:
    tasks = dict.fromkeys(run.config.task for run in runs)
    return " or ".join(main_metric(task).label for task in tasks)


def _image_size(run: LoadedRun) -> str:
    if run.config.task == "detection":
        sides = run.config.detection
        return f"{sides.short_side} to {sides.max_side}"
    return str(run.config.data.image_size)


def _some(values: Iterable[Any], unit: str = "") -> str:
    """Each value once, in order; "unknown" where there is none."""
    kept = dict.fromkeys(str(value) for value in values if value not in (None, ""))
    return ", ".join(kept) + unit if kept else "unknown"


def _split(split: str, counts: Iterable[int | None]) -> str:
    numbers = _some(f"{n:,}" for n in counts if n is not None)
    return f"{numbers} ({split})" if split else numbers


def _train_images(run: LoadedRun) -> int | None:
    per_epoch = run.starts[-1].get("steps_per_epoch") if run.starts else None
    return None if per_epoch is None else round(per_epoch * run.config.train.batch_size)


def _epochs(run: LoadedRun) -> str | None:
    start = run.starts[-1] if run.starts else {}
    steps, per_epoch = start.get("total_steps"), start.get("steps_per_epoch")
    return f"{steps / per_epoch:.4g}" if steps and per_epoch else None


def _hardware(start: dict[str, Any]) -> str | None:
    if "device_kind" not in start:
        return None
    kind, platform = start["device_kind"], start.get("platform")
    device = kind if kind == platform else f"{kind} ({platform})"
    hardware = f"{start.get('device_count', '?')} x {device}"
    processes = start.get("process_count", 1)
    return hardware + ("" if processes == 1 else f", {processes} processes")


def _span(starts: Sequence[dict[str, Any]]) -> str:
    times = sorted(str(start["time"]) for start in starts if start.get("time"))
    if not times:
        return "unknown"
    first, last = times[0], times[-1]
    return first if first == last else f"{first} to {last}"


def _versions(starts: Sequence[dict[str, Any]]) -> str:
    found: dict[str, dict[str, None]] = {}
    for start in starts:
        versions = start.get("versions")
        for name, version in versions.items() if isinstance(versions, dict) else ():
            if version is not None:
                found.setdefault(name, {})[str(version)] = None
    return _some(f"{name} {' and '.join(which)}" for name, which in found.items())
