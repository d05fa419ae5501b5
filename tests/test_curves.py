"""The figure of learning curves, from real run folders."""

import json

import pytest

from rtj.metrics import MetricsWriter
from rtj.study.curves import load_curve, main


@pytest.fixture
def run_folder(tmp_path):
    """A folder as a run leaves it: 10 steps an epoch, two evaluations."""

    def make(name, evaluated=True, task="classification", data="digits", key="top1"):
        folder = tmp_path / name
        folder.mkdir()
        config = {"name": name, "data.name": data, "task": task}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "starts.jsonl").write_text('{"steps_per_epoch": 10.0}\n')
        with MetricsWriter(folder, start_step=0) as writer:
            for step in (5, 10, 15, 20):
                writer.write(step, "train", {"loss": 1 / step})
                if evaluated and step % 10 == 0:
                    writer.write(step, "eval", {key: 1 - 1 / step})
        return folder

    return make


def test_a_curve_is_in_epochs_and_split_by_kind(run_folder):
    name, run = load_curve(run_folder("cosine"))
    train, evaluations = run.rows("train"), run.rows("eval")
    assert name == "cosine (digits)"
    assert [(r["epoch"], r["loss"]) for r in train] == [
        (0.5, 1 / 5),
        (1.0, 1 / 10),
        (1.5, 1 / 15),
        (2.0, 1 / 20),
    ]
    assert [(r["epoch"], r["top1"]) for r in evaluations] == [(1.0, 0.9), (2.0, 0.95)]


def test_the_figure_is_written_in_the_format_of_its_suffix(run_folder, tmp_path):
    folders = [str(run_folder(name)) for name in ("a", "b")]
    assert main([*folders, f"--out={tmp_path / 'f.png'}"]) == 0
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert main([*folders, f"--out={tmp_path / 'f.svg'}"]) == 0
    assert "<svg" in (tmp_path / "f.svg").read_text()


@pytest.mark.parametrize("kind", ["no run", "no evaluation"])
def test_a_folder_without_curves_is_exit_5_and_named(
    run_folder, tmp_path, capsys, kind
):
    folder = tmp_path if kind == "no run" else run_folder("new", evaluated=False)
    assert main([str(folder), f"--out={tmp_path / 'f.png'}"]) == 5
    assert str(folder) in capsys.readouterr().err
    assert not (tmp_path / "f.png").exists()


def test_a_figure_is_of_the_tasks_own_metric_and_of_one_task(
    run_folder, tmp_path, capsys
):
    table9 = {"task": "segmentation", "data": "scenes", "key": "mean_iou"}
    folders = [str(run_folder("fcn", **table9)), str(run_folder("cosine"))]
    out = tmp_path / "f.svg"
    assert main([folders[0], f"--out={out}"]) == 0
    assert "held-out error (100 - mIoU), %" in out.read_text()
    assert main([*folders, f"--out={tmp_path / 'g.png'}"]) == 5
    assert "segmentation, classification" in capsys.readouterr().err
