"""The command line as a user meets it: errors, exit codes, signals, resuming."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest

from rtj import main
from rtj.config import config_hash
from rtj.metrics import read_metrics

CONFIG = "--config=configs/ablation.py"
ROW = f"{CONFIG}:zero_gamma,data=digits"
TINY = [
    ROW,
    "--config.model.width=4",
    "--config.model.small_images=True",
    "--config.model.bn_group_size=8",
    "--config.train.batch_size=32",
    "--config.train.log_every=1",
    "--config.train.eval_every=0.0",
    "--config.data.image_size=14",
    "--config.data.eval_resize=14",
    "--config.data.eval_split=test[:100]",
    "--config.mesh.devices=1",
]


@pytest.fixture
def here(repo_root, tmp_path, monkeypatch):
    """The repository root as current folder; `runs/` would show up in it."""
    monkeypatch.chdir(repo_root)
    before = sorted(p.name for p in repo_root.iterdir())
    yield tmp_path
    assert sorted(p.name for p in repo_root.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([f"{CONFIG}:zero_gama"], "'zero_gama' is unknown; allowed, nearest first: "),
        ([f"{CONFIG}:zero_gamma,batch=abc"], "batch='abc' is not allowed; allowed: "),
        ([CONFIG], "a row is missing"),
        ([], "--config is missing"),
        (["--config=nothing.py"], "nothing.py"),
        ([ROW, "--config.nope=1"], "config field 'nope' is unknown; allowed, nearest"),
        (
            [ROW, "--config.train.epoch=1"],
            "'train.epoch' is unknown; allowed, nearest first: train.epochs",
        ),
        ([ROW, "--config.train.epochs=many"], "train.epochs=many"),
        ([ROW, "--config.train.batch_size=0"], "train.batch_size=0 is not allowed"),
        ([ROW, "--config.model.bn_group_size=7"], "bn_group_size=7 does not divide"),
        ([ROW, "--config.train.accumulate=3"], "train.accumulate=3 does not divide"),
        (
            [ROW, "--config.model.bn_group_size=0", "--config.train.accumulate=4"],
            "bn_group_size=0 (the whole batch) cannot be kept",
        ),
        ([ROW, "--config.data.crop_area=(0.5,0.1)"], "two numbers low <= high"),
        ([ROW, "--config.mesh.devices=99"], "mesh.devices=99, but there are 8"),
        ([ROW, "--config.model.name=resnet51"], "resnet50"),
        ([ROW, "--mode=test"], "--mode=test"),
        ([ROW, "--checkpoint=x"], "--checkpoint goes with --mode=eval"),
        ([ROW, "--profile=5"], "--profile='5'; allowed: START:STOP"),
        ([ROW, "--mode=eval", "--profile=1:2"], "--profile goes with --mode=train"),
        ([ROW, "--processes=2"], "missing: --coordinator, --process"),
        ([ROW, "--wrokdir=x"], "wrokdir"),
        ([ROW, "extra"], "argument 'extra' is not a flag"),
    ],
)
def test_a_bad_command_is_exit_2_and_one_line_and_nothing_written(
    here, capsys, arguments, message
):
    workdir = here / "run"
    assert main.run(["rtj.main", *arguments, f"--workdir={workdir}"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("rtj: ")
    assert err.count("\n") == 1
    assert message in err
    assert not workdir.exists()


@pytest.mark.parametrize("kind", ["under a file", "someone else's folder"])
def test_a_workdir_that_cannot_be_used_is_exit_2(here, capsys, kind):
    other = here / "other"
    if kind == "under a file":
        other.write_text("a file")
        workdir = other / "run"
    else:
        other.mkdir()
        (other / "thesis.tex").write_text("years of work")
        workdir = other
    assert main.run(["rtj.main", *TINY, f"--workdir={workdir}"]) == 2
    assert f"workdir='{workdir}'" in capsys.readouterr().err
    assert [p.name for p in here.rglob("*")] in (["other"], ["other", "thesis.tex"])


def test_data_that_is_not_there_is_exit_5_with_the_command_that_prepares_it(
    here, capsys
):
    argument = f"{CONFIG}:zero_gamma,data=imagenet"
    assert main.run(["rtj.main", argument, f"--workdir={here / 'run'}"]) == 5
    assert "tfds build imagenet2012" in capsys.readouterr().err
    assert not (here / "run").exists()


def test_help_is_exit_0(capsys):
    assert main.run(["rtj.main", "--help"]) == 0
    assert "Exit codes" in capsys.readouterr().out


def test_the_default_workdir_is_one_folder_for_each_config():
    _, a = main.parse(["rtj.main", ROW])
    _, b = main.parse(["rtj.main", ROW, "--config.train.epochs=3"])
    assert main.default_workdir(a) != main.default_workdir(b)
    folder = main.default_workdir(a)
    assert folder.name == f"ablation-zero_gamma-digits-{config_hash(a)}"


def test_no_traceback_reaches_the_user_of_a_real_process(run_rtj, tmp_path):
    done = run_rtj([f"{CONFIG}:zero_gama", f"--workdir={tmp_path / 'run'}"])
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_last_line_is_json_and_the_same_command_again_does_not_train(
    run_rtj, tmp_path
):
    arguments = [*TINY, "--config.train.steps=3", f"--workdir={tmp_path / 'run'}"]
    first = run_rtj(arguments)
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout.splitlines()[-1])
    assert result["step"] == 3
    assert result["examples"] == 100
    assert "zero gamma       on" in first.stdout
    assert "on data digits" in first.stdout
    again = run_rtj(arguments)
    assert json.loads(again.stdout.splitlines()[-1]) == result
    assert "step 1/3" not in again.stdout
    other = run_rtj([*arguments, "--config.seed=1"])
    assert other.returncode == 2
    assert "seed: 0 -> 1" in other.stderr
    evaluated = run_rtj([*arguments, "--mode=eval"])
    line = json.loads(evaluated.stdout.splitlines()[-1])
    assert line["top1"] == result["top1"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_exits_3_and_the_rerun_goes_on(repo_root, tmp_path, number):
    workdir = tmp_path / "run"
    command = [sys.executable, "-m", "rtj.main", *TINY, f"--workdir={workdir}"]
    command += ["--config.train.steps=2000", "--config.train.save_every=0.0"]
    child = subprocess.Popen(
        command,
        cwd=repo_root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("step 3/"):
            break
    child.send_signal(number)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 3, err
    assert f"{signal.Signals(number).name}: saved step" in err
    assert err.count("\n") == 1
    saved = max(int(p.name) for p in (workdir / "checkpoints").iterdir())
    again = subprocess.Popen(command, cwd=repo_root, stdout=subprocess.PIPE, text=True)
    assert again.stdout is not None
    text = ""
    for line in again.stdout:
        text += line
        if line.startswith(f"step {saved + 2}/"):
            break
    again.terminate()
    again.communicate(timeout=120)
    assert f"resuming at step {saved}" in text
    assert again.returncode == 3
    steps = [row["step"] for row in read_metrics(workdir)]
    np.testing.assert_array_equal(steps, np.arange(len(steps)) + 1)
    assert len(steps) >= saved + 2


@pytest.mark.slow
def test_a_run_does_not_import_tensorflow_where_it_is_installed(run_rtj, tmp_path):
    package = tmp_path / "site" / "tensorflow"
    package.mkdir(parents=True)
    marker = tmp_path / "imported"
    (package / "__init__.py").write_text(f"open({str(marker)!r}, 'w')\n")
    done = run_rtj(
        [*TINY, "--config.train.steps=1", f"--workdir={tmp_path / 'run'}"],
        env={"PYTHONPATH": str(tmp_path / "site")},
    )
    assert done.returncode == 0, done.stderr
    assert not marker.exists()
