"""Sweeps of tables 8 and 9: each row on its own weights, or one clear error."""

import re
import shlex

import pytest

from rtj import sweep
from rtj.main import parse
from rtj.study import sweep_run
from tests.study.run_folders import write_run

SMOOTHED = ("smooth", "distill", "mixup", "distill_mixup")
ROWS = ("b_standard", "d_efficient", "cosine", *SMOOTHED)


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch, repo_root):
    monkeypatch.chdir(repo_root)


@pytest.fixture
def backbones(tmp_path):
    """A template, and a file of each row."""
    folder = tmp_path / "backbones"
    folder.mkdir()
    for row in ROWS:
        (folder / f"{row}.npz").touch()
    return f"{folder}/{{row}}.npz"


@pytest.fixture
def dry_run(tmp_path, capfd):
    """The configs of a dry run, by run; workdirs are in `tmp_path / "d"`."""

    def run(*flags):
        assert sweep.main([f"--workdir={tmp_path / 'd'}", "--dry-run", *flags]) == 0
        lines = capfd.readouterr().out.splitlines()
        found = {}
        for line in lines:
            words = shlex.split(line)
            assert words[:3] == ["python", "-m", "rtj.main"]
            values, config = parse(words[2:])
            found[values.workdir.removeprefix(f"{tmp_path}/d/")] = config
        return found

    return run


@pytest.mark.parametrize(
    ("number", "task", "data"), [(8, "detection", "voc"), (9, "segmentation", "ade20k")]
)
def test_every_row_runs_on_its_own_weights(dry_run, backbones, number, task, data):
    found = dry_run(f"--table={number}", f"--backbones={backbones}")
    assert list(found) == [f"{task}-{row}-seed0" for row in ROWS]
    for row, config in zip(ROWS, found.values(), strict=True):
        assert (config.task, config.data.name) == (task, data)
        assert config.train.weights == backbones.replace("{row}", row)
        assert config.name == f"{task}-{row}"


def test_seeds_rows_keys_and_fields_are_passed_on(dry_run, backbones):
    found = dry_run(
        "--table=8,9",
        "--seeds=2",
        "--rows=cosine",
        f"--backbones={backbones}",
        "--config=configs/ablation.py:batch=4,precision=fp32,data_dir=/d",
        "--config.train.steps=7",
    )
    assert list(found) == [
        f"{task}-cosine-seed{seed}"
        for seed in (0, 1)
        for task in ("detection", "segmentation")
    ]
    for name, config in found.items():
        assert config.seed == int(name[-1])
        assert (config.train.batch_size, config.train.steps) == (4, 7)
        assert (config.tricks.precision, config.data.data_dir) == ("fp32", "/d")


def test_on_scenes_rows_are_small_and_may_start_from_random_weights(dry_run):
    found = dry_run("--table=8,9", "--data=scenes", "--backbones=none")
    # Of random weights there is nothing but the network to tell rows apart.
    assert list(found) == [
        f"{task}-{row}-seed0"
        for task in ("detection", "segmentation")
        for row in ("b_standard", "d_efficient")
    ]
    for name, config in found.items():
        assert (config.data.name, config.train.weights) == ("scenes", "")
        assert config.model.name.endswith("b" if "b_standard" in name else "d")


def test_one_path_is_for_all_rows_and_its_equals_run_once(dry_run, backbones):
    one = backbones.replace("{row}", "cosine")
    found = dry_run("--table=9", "--rows=smooth,mixup", f"--backbones={one}")
    assert {name: c.train.weights for name, c in found.items()} == {
        "segmentation-smooth-seed0": one
    }


def test_names_of_a_hub_are_taken_as_they_are(dry_run):
    weights = "timm:resnet50d.gluon_in1k"
    found = dry_run("--table=8", "--rows=d_efficient", f"--backbones={weights}")
    assert [config.train.weights for config in found.values()] == [weights]


def test_tables_of_classification_and_transfer_run_together(dry_run, backbones):
    found = dry_run(
        "--table=6,9",
        "--rows=cosine",
        "--data=scenes",
        f"--backbones={backbones}",
        "--config=configs/ablation.py:data=digits",
    )
    assert {name: c.data.name for name, c in found.items()} == {
        "cosine-seed0": "digits",
        "segmentation-cosine-seed0": "scenes",
    }


def test_the_default_workdir_is_of_the_data(backbones, capfd):
    flags = ["--rows=cosine", f"--backbones={backbones}", "--dry-run"]
    for more, name in ((["--table=8"], "voc"), (["--table=9"], "ade20k")):
        assert sweep.main([*flags, *more]) == 0
        assert f"--workdir=runs/sweep-{name}/" in capfd.readouterr().out
    assert sweep.main([*flags, "--table=9", "--data=scenes"]) == 0
    assert "--workdir=runs/sweep-scenes/segmentation-cosine-seed0" in (
        capfd.readouterr().out
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--table=8"], r"--backbones is missing: rows b_standard, .*runs/\{row\}"),
        (["--table=9", "--backbones=none"], "none is allowed with --data=scenes only"),
        (
            ["--table=8", "--rows=cosine,mixup", "--backbones=no/{row}"],
            r"rows cosine \(no/cosine: there is no such file or folder\), mixup \(",
        ),
        (["--table=6", "--backbones=none"], "--backbones=none is for tables 8 and 9"),
        (["--table=6", "--data=scenes"], "--data=scenes is for tables 8 and 9; others"),
        (
            ["--table=8", "--config=configs/ablation.py:data=scenes"],
            "tables 8 and 9 take --data",
        ),
        (
            ["--table=8", "--data=digits", "--backbones=timm:resnet50d"],
            "data set 'digits' is not allowed; allowed: scenes | voc",
        ),
        (["--table=9", "--rows=teacher"], "row 'teacher' is unknown"),
    ],
)
def test_bad_flags_are_one_error_and_nothing_is_written(
    flags, message, tmp_path, capfd
):
    assert sweep.main([*flags, f"--workdir={tmp_path / 'd'}", "--dry-run"]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not (tmp_path / "d").exists()


def test_a_run_without_a_checkpoint_and_an_empty_folder_are_no_weights(tmp_path, capfd):
    template = f"{tmp_path}/{{row}}"
    write_run(tmp_path / "cosine", "cosine")
    write_run(tmp_path / "smooth", "label_smoothing")
    (tmp_path / "smooth" / "checkpoints" / "40").mkdir(parents=True)
    (tmp_path / "mixup").mkdir()
    flags = ["--table=9", "--rows=cosine,smooth,mixup", f"--backbones={template}"]
    assert sweep.main([*flags, "--dry-run"]) == 2
    error = capfd.readouterr().err
    assert f"cosine ({tmp_path}/cosine: a run that has not saved a checkpoint)" in error
    assert f"mixup ({tmp_path}/mixup: an empty folder)" in error
    assert "smooth (" not in error


def test_a_finished_run_shows_its_tasks_metric(tmp_path, monkeypatch, capsys):
    result = {"step": 4, "map": 0.8125}
    monkeypatch.setattr(sweep_run, "train", lambda *args, **kwargs: result)
    flags = ["--table=8", "--data=scenes", "--backbones=none", "--rows=d_efficient"]
    assert sweep.main([*flags, f"--workdir={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"detection-d_efficient-seed0 +done +mAP 81.25 %", shown)
