"""Classes and confusions, from predictions by hand."""

import pytest

from rtj.study.classes import ByClass, ClassAccuracy, Confusion, best_setting, by_class
from rtj.study.collect import group_runs
from rtj.study.load import load_run


def predictions(label, prediction):
    return {"index": range(len(label)), "label": label, "prediction": prediction}


@pytest.fixture
def settings(runs):
    """The settings of the runs written so far."""

    def load():
        groups = group_runs(load_run(folder) for folder in sorted(runs.iterdir()))
        return [setting for group in groups for setting in group.settings]

    return load


@pytest.fixture
def found(settings):
    """What the only setting written so far gets right and wrong."""

    def count() -> ByClass:
        (setting,) = settings()
        classes = by_class(setting)
        assert classes is not None
        return classes

    return count


def test_seeds_are_summed_and_the_worst_come_first(add_run, found):
    add_run("cosine", seed=0, predictions=predictions([0, 0, 1, 1], [0, 1, 1, 1]))
    add_run("cosine", seed=1, predictions=predictions([0, 0, 1, 2], [1, 1, 1, 0]))
    both = found()
    assert both.runs == 2
    assert both.classes == (
        ClassAccuracy("2", right=0, examples=1),
        ClassAccuracy("0", right=1, examples=4),
        ClassAccuracy("1", right=3, examples=3),
    )
    assert both.confusions == (Confusion("0", "1", 3, 4), Confusion("2", "0", 1, 1))


def test_a_class_that_was_only_predicted_has_no_accuracy(add_run, found):
    add_run("cosine", predictions=predictions([0, 0], [0, 3]))
    assert [entry.name for entry in found().classes] == ["0"]
    assert found().confusions == (Confusion("0", "3", 1, 2),)


def test_imagenets_classes_have_their_wordnet_ids(add_run, found):
    add_run("cosine", data="imagenet", predictions=predictions([999], [0]))
    assert found().confusions == (Confusion("n15075141", "n01440764", 1, 1),)


def test_the_best_is_of_those_with_predictions(add_run, settings):
    answers = predictions([0], [0])
    add_run("cosine", top1=0.8, predictions=answers)
    add_run("mixup", top1=0.9, predictions=answers)
    add_run("distill", top1=0.95)
    best = best_setting(settings())
    assert best is not None
    assert best.config.name == "ablation-mixup"


def test_without_predictions_there_is_no_best(add_run, settings):
    add_run("cosine")
    assert best_setting(settings()) is None
    assert by_class(settings()[0]) is None


def test_many_classes_are_cut_to_the_worst_20(add_run, view):
    label = [number for number in range(50) for _ in range(2)]
    wrong = [(n + 1) % 50 if i % 2 and n < 30 else n for i, n in enumerate(label)]
    add_run("cosine", predictions=predictions(label, wrong))
    rows = view().rows("The 20 worst of 50 classes")
    assert len(rows) == 20
    assert {row["Accuracy"] for row in rows} == {"50.0%"}
    assert len(view().rows("The most frequent confusions")) == 15


def test_a_row_of_a_table_is_shown_before_a_better_run_of_none(add_run, view):
    add_run("teacher", top1=0.99, predictions=predictions([0, 1], [0, 1]))
    add_run("cosine", top1=0.9, predictions=predictions([0, 1], [0, 0]))
    (accuracy,) = [
        row["Accuracy"] for row in view().rows("All 2 classes") if row["Class"] == "1"
    ]
    assert accuracy.startswith("0")


def test_without_any_row_of_a_table_another_run_is_shown(add_run, view):
    add_run("teacher", top1=0.99, predictions=predictions([0, 1], [0, 1]))
    assert len(view().rows("All 2 classes")) == 2
