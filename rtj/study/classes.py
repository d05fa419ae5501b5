"""What a setting gets right and wrong, by class, over all of its seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rtj.labels import class_names
from rtj.study.collect import Setting
from rtj.study.load import LoadedRun


@dataclass(frozen=True)
class ClassAccuracy:
    """A class: its name, its examples and how many of them were right."""

    name: str
    right: int
    examples: int

    @property
    def accuracy(self) -> float:
        """A fraction of 1."""
        return self.right / self.examples


@dataclass(frozen=True)
class Confusion:
    """How often one class was taken for another, of how many examples."""

    true: str
    predicted: str
    count: int
    examples: int


@dataclass(frozen=True)
class ByClass:
    """All classes with an example, the worst first; all confusions, the most first."""

    runs: int
    classes: tuple[ClassAccuracy, ...]
    confusions: tuple[Confusion, ...]


def by_class(setting: Setting) -> ByClass | None:
    """Summed over the runs of a setting; None if none has predictions."""
    runs = [run for run in setting.finished if _has_predictions(run)]
    if not runs:
        return None
    pairs = np.concatenate([_pairs(run) for run in runs])
    count = int(pairs.max()) + 1
    names, _ = class_names(count, config=setting.config)
    names = names or tuple(str(number) for number in range(count))
    unique, counts = np.unique(pairs, axis=0, return_counts=True)
    examples = np.bincount(pairs[:, 0])
    right = np.zeros(count, np.int64)
    confusions = []
    for (true, predicted), times in zip(unique.tolist(), counts.tolist(), strict=True):
        if true == predicted:
            right[true] = times
        else:
            total = int(examples[true])
            confusions.append(Confusion(names[true], names[predicted], times, total))
    classes = [
        ClassAccuracy(names[c], int(right[c]), int(examples[c]))
        for c in np.flatnonzero(examples).tolist()
    ]
    return ByClass(
        runs=len(runs),
        classes=tuple(sorted(classes, key=lambda c: c.accuracy)),
        confusions=tuple(sorted(confusions, key=lambda c: -c.count)),
    )


def best_setting(settings: Sequence[Setting]) -> Setting | None:
    """The one of highest mean top-1 of those with predictions."""
    scored = [
        (float(np.mean([run.result["top1"] for run in s.finished if run.result])), s)
        for s in settings
        if any(map(_has_predictions, s.finished))
    ]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None


def _has_predictions(run: LoadedRun) -> bool:
    return run.predictions is not None and run.predictions["label"].size > 0


def _pairs(run: LoadedRun) -> np.ndarray:
    """(N, 2) of true and predicted class."""
    assert run.predictions is not None
    columns = (run.predictions["label"], run.predictions["prediction"])
    return np.stack(columns, axis=1).astype(np.int64)
