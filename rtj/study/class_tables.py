"""The best row's classes and confusions as tables."""

from collections.abc import Sequence

from rtj.study.classes import ClassAccuracy, Confusion, best_setting, by_class
from rtj.study.collect import Setting
from rtj.study.document import Bar, Block, Grid, Heading, Text, plural

WORST = 20
CONFUSIONS = 15


def class_blocks(settings: Sequence[Setting]) -> list[Block]:
    """Of the setting with the highest top-1; [] if none has predictions."""
    best = best_setting(settings)
    found = by_class(best) if best is not None else None
    if best is None or found is None:
        return []
    config = best.config
    text = (
        f"Of {config.name} ({config.model.name}, batch {config.train.batch_size}), the "
        "row with the highest top-1 of those with predictions; summed over "
        f"{plural(found.runs, 'run')}."
    )
    blocks: list[Block] = [Heading(3, "Classes"), Text(text), _classes(found.classes)]
    if found.confusions:
        blocks.append(_confusions(found.confusions[:CONFUSIONS]))
    return blocks


def _classes(classes: Sequence[ClassAccuracy]) -> Grid:
    total = len(classes)
    which = f"The {WORST} worst of {total:,}" if total > WORST else f"All {total}"
    rows = [
        (
            entry.name,
            Bar(entry.accuracy, f"{entry.accuracy:.1%}"),
            f"{entry.right:,}",
            f"{entry.examples:,}",
        )
        for entry in classes[:WORST]
    ]
    return Grid(
        f"{which} classes, the worst first",
        ("Class", "Accuracy", "Right", "Images"),
        tuple(rows),
        (False, False, True, True),
    )


def _confusions(confusions: Sequence[Confusion]) -> Grid:
    rows = [
        (
            entry.true,
            entry.predicted,
            f"{entry.count:,}",
            f"{entry.count / entry.examples:.1%}",
        )
        for entry in confusions
    ]
    return Grid(
        "The most frequent confusions",
        ("Class", "Taken for", "Images", "Of the class"),
        tuple(rows),
        (False, False, True, True),
    )
