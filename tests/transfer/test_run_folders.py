"""Runs on folders of photos of several shapes, some of which cannot be used."""

import numpy as np
import pytest

import rtj
from rtj.errors import DataError
from rtj.inputs import evaluation_batches, training_batches
from rtj.metrics import read_metrics
from rtj.preflight import data_fingerprint
from tests.transfer.folders import BROKEN, HELD_OUT, MENDED, UNUSABLE
from tests.transfer.runs import SCORES, TASKS, folder_config

TOGETHER = "transfer runs"


def shapes(batches):
    """The shape of each batch's images."""
    with batches:
        return [batch["image"].shape for batch in batches]


@pytest.mark.parametrize("task", TASKS)
def test_a_step_is_compiled_once_for_each_shape_of_an_epoch(task, folder_run, built):
    run = folder_run(task)
    experiment = built(run.config)
    train = shapes(training_batches(experiment, 0))
    held_out = shapes(evaluation_batches(experiment))
    assert len(train) == 4
    assert len(set(train)) == {"segmentation": 1, "detection": 2}[task]
    assert len(set(held_out)) == {"segmentation": 3, "detection": 2}[task]
    assert run.compiled == (len(set(train)), len(set(held_out)))


@pytest.mark.parametrize("task", TASKS)
def test_a_run_with_bad_examples_ends_with_finite_losses_and_counts_the_good_ones(
    task, folder_run
):
    run = folder_run(task)
    lines = read_metrics(run.workdir, ["train"])
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    for line in lines:
        assert line["skipped"] == 0
        assert all(np.isfinite(value) for key, value in line.items() if key != "kind")
    assert run.result["examples"] == len(HELD_OUT) - len(BROKEN)
    for name in SCORES[task]:
        assert 0 <= run.result[name] <= 1


@pytest.mark.parametrize("task", TASKS)
def test_every_bad_example_is_named_once_with_its_fault(task, folder_run):
    messages = folder_run(task).messages
    mark = ": skipped: example "
    skipped = dict(
        text.split(mark)[1].split(": ", 1) for text in messages if mark in text
    )
    assert len(skipped) == sum(mark in text for text in messages)
    wrong = UNUSABLE[task]
    assert len(skipped) == len(wrong) + len(BROKEN)
    for name, fault in wrong.items():
        assert fault in skipped[name]
    for name in skipped.keys() - wrong.keys():
        assert "the image cannot be decoded" in skipped[name]
    for fault, what in MENDED[task].items():
        assert len([t for t in messages if fault in t and what in t]) == 1


@pytest.mark.parametrize("task", TASKS)
def test_without_leave_for_bad_examples_a_run_is_an_error_of_exit_5_that_names_one(
    task, folder_run, tmp_path
):
    root = folder_run(task).root
    config = folder_config(task, root, **{"data.max_bad_images": 0.0})
    names = "|".join(UNUSABLE[task])
    match = rf"example ({names}): .* of 16 images; allowed: data.max_bad_images=0 of"
    with pytest.raises(DataError, match=match) as caught:
        rtj.train(config, tmp_path)
    assert caught.value.exit_code == 5


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_processes_compare_data_of_which_some_cannot_be_used(task, folder_run, built):
    source = built(folder_run(task).config).train_source
    assert data_fingerprint(source) == data_fingerprint(source)
