"""Runs that are in no table of the paper."""

from collections.abc import Sequence

from rtj.study.collect import Setting
from rtj.study.document import Block, Grid, Heading, plural
from rtj.study.lines import our_scores
from rtj.study.metrics import labels


def other_blocks(settings: Sequence[Setting]) -> list[Block]:
    """Settings of one task, a row each, with the metrics of that task."""
    task = settings[0].config.task
    metrics = [name.replace("top", "Top") for name in labels(task)]
    header = ("Run", "Network", "Batch", *metrics, "Runs", "Folders")
    rows = []
    for setting in settings:
        config = setting.config
        folders = ", ".join(str(run.workdir) for run in setting.runs)
        names = (config.name, config.model.name, str(config.train.batch_size))
        count = str(len(setting.finished))
        rows.append((*names, *our_scores(setting, task), count, folders))
    caption = f"{plural(len(rows), 'setting')} of no table of the paper"
    numeric = (False, False, *(True for _ in header[2:-1]), False)
    return [Heading(3, "Other runs"), Grid(caption, header, tuple(rows), numeric)]
