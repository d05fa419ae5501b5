"""`rtj.load_run` on folders of every state."""

import builtins
import json

import numpy as np
import pytest

import rtj
from rtj.errors import ConfigError, DataError
from tests.study.run_folders import write_run

PREDICTIONS = {"index": [0, 1, 2], "label": [4, 4, 1], "prediction": [4, 3, 1]}


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "run", "cosine", top1=0.75, predictions=PREDICTIONS)


def test_a_finished_run_is_read_whole(folder):
    run = rtj.load_run(folder)
    assert run.workdir == folder
    assert run.config.name == "ablation-cosine"
    assert run.config.tricks.schedule == "cosine"
    assert run.finished
    assert run.result is not None
    assert run.result["top1"] == 0.75
    assert [start["device_kind"] for start in run.starts] == ["NVIDIA H100"]
    assert [row["epoch"] for row in run.rows("eval")] == [1.0, 2.0, 3.0, 4.0]
    assert [row["epoch"] for row in run.rows("train")][:3] == [0.5, 1.0, 1.5]
    assert (run.step, run.total_steps) == (40, 40)
    assert run.predictions is not None
    assert {k: v.tolist() for k, v in run.predictions.items()} == PREDICTIONS
    assert all(array.dtype == np.int32 for array in run.predictions.values())


def test_a_run_that_goes_on_has_no_result_and_no_predictions(tmp_path):
    run = rtj.load_run(str(write_run(tmp_path / "run", "cosine", finished=False)))
    assert not run.finished
    assert (run.result, run.predictions) == (None, None)
    assert (run.step, run.total_steps) == (20, 40)


def test_a_run_that_has_only_begun_is_at_step_0(folder):
    for name in ("metrics.jsonl", "result.json", "starts.jsonl"):
        (folder / name).unlink()
    run = rtj.load_run(folder)
    assert (run.step, run.total_steps, run.metrics) == (0, None, [])


def test_lines_that_a_kill_cut_are_left_out(folder):
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 45, "kind": "tr')
    with (folder / "starts.jsonl").open("a") as file:
        file.write('{"time": "20')
    run = rtj.load_run(folder)
    assert run.step == 40
    assert len(run.starts) == 1


def test_a_frame_has_a_row_a_metrics_line(folder):
    frame = rtj.load_run(folder).frame()
    assert list(frame.columns) == ["step", "epoch", "top1", "top5", "loss", "examples"]
    assert frame["step"].tolist() == [10, 20, 30, 40]
    train = rtj.load_run(folder).frame("train")
    assert train["step"].tolist() == [5, 10, 15, 20, 25, 30, 35, 40]
    assert "lr" in train.columns


def test_a_frame_of_another_kind_is_refused(folder):
    with pytest.raises(ConfigError, match=r"'evil' is unknown; allowed.*eval"):
        rtj.load_run(folder).frame("evil")


def test_without_pandas_the_extra_is_named(folder, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    run = rtj.load_run(folder)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"rtj\[notebook\]"):
        run.frame()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "no config.json"),
        ("config.json", "{", "config.json"),
        ("config.json", '{"name": "x"}', "data.name"),
        ("config.json", '{"data.name": "digits", "tricks.mixup": -1}', "tricks.mixup"),
        ("metrics.jsonl", '{"step": 1}\n{"step": 2, "kind": "eval"}\n', "line 1"),
        ("metrics.jsonl", "\x00\n{}\n", "line 1"),
        ("starts.jsonl", '{"steps_per_epoch": "ten"}\n', "steps_per_epoch='ten'"),
        ("starts.jsonl", '{"steps_per_epoch": 0}\n', "steps_per_epoch"),
        ("starts.jsonl", "[]\n", "starts.jsonl"),
        ("starts.jsonl", None, "steps_per_epoch"),
        ("result.json", "{", "result.json is damaged"),
        ("result.json", "[1]", "result.json is damaged"),
        ("result.json", '{"step": 40, "top5": 1, "loss": 1}', "top1=None"),
        ("predictions.npz", "PK", "predictions.npz is damaged"),
        ("predictions.npz", "", "predictions.npz is damaged"),
    ],
)
def test_a_damaged_run_is_a_data_error_that_names_folder_and_fault(
    folder, file, content, message
):
    path = folder / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(DataError) as caught:
        rtj.load_run(folder)
    assert str(folder) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "arrays",
    [
        {"index": [0], "label": [1]},
        {"index": [0], "label": [1], "prediction": [1, 2]},
        {"index": [0], "label": [1.5], "prediction": [1]},
        {"index": [0], "label": [-1], "prediction": [1]},
        {"index": [[0]], "label": [[1]], "prediction": [[1]]},
        {"index": [0], "label": [1], "prediction": np.array([{}])},
    ],
    ids=["missing", "lengths", "floats", "negative", "shape", "pickle"],
)
def test_predictions_of_another_form_are_damaged(folder, arrays):
    np.savez(folder / "predictions.npz", **arrays)
    with pytest.raises(DataError, match=r"predictions.npz is damaged"):
        rtj.load_run(folder)


def test_a_missing_folder_and_a_file_are_no_runs(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        rtj.load_run(tmp_path / "none")
    (tmp_path / "file").write_text(json.dumps({}))
    with pytest.raises(DataError, match="is not a run"):
        rtj.load_run(tmp_path / "file")


def test_a_run_is_read_without_its_parents_config(tmp_path, folder):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no config.json"):
        rtj.load_run(tmp_path / "empty")
