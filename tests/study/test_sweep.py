"""Sweeps: which runs they are made of, and that they finish what they can."""

import io
import json
import os
import re
import shlex
import signal

import pytest

import rtj
from rtj import sweep
from rtj.config import config_hash
from rtj.main import parse
from rtj.study import sweep_run
from rtj.study.paper import TABLES
from rtj.study.sweep_plan import Choice, Common, arguments, choose_keys, plan
from rtj.study.sweep_table import SweepTable

FILE = "configs/ablation.py"
TINY = [
    "--config=configs/ablation.py:data=digits,precision=fp32,images=64",
    "--config.model.width=4",
    "--config.model.small_images=True",
    "--config.data.image_size=14",
    "--config.data.eval_resize=14",
    "--config.data.eval_split=test[:64]",
    "--config.train.batch_size=32",
    "--config.model.bn_group_size=32",
    "--config.train.epochs=2",
    "--config.mesh.devices=1",
]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch, repo_root):
    monkeypatch.chdir(repo_root)


def run(tmp_path, *flags, table="6", rows="cosine,label_smoothing"):
    """Exit code of a small sweep in `tmp_path`."""
    return sweep.main(
        [*TINY, f"--table={table}", f"--rows={rows}", f"--workdir={tmp_path}", *flags]
    )


def planned(tmp_path, keys="data=imagenet", tables=(6,), seeds=1, **choice):
    parsed, _ = choose_keys(keys)
    found = arguments(Choice(tables, **choice), other_networks=False)
    return plan(found, seeds, Common(FILE, parsed, (), tmp_path))


def test_table_4_is_its_five_rows_at_both_batches():
    rows = ["linear_scaling", "warmup", "zero_gamma", "no_bias_decay", "low_precision"]
    found = arguments(Choice((4,)), other_networks=False)
    assert found == [name for row in rows for name in (f"{row},batch=small", row)]
    assert arguments(Choice((4,), columns=("BS=1024",)), other_networks=False) == rows


@pytest.mark.parametrize("number", range(1, 7))
def test_every_cell_of_tables_1_to_6_has_a_config(number, tmp_path):
    cells = [
        cell.argument
        for table in TABLES
        if table.number == number
        for row in table.rows
        for cell in row.cells
    ]
    runs = planned(tmp_path, tables=(number,), columns=("all",))
    assert {a for a in cells if a} == {
        r.flags[0].split(":", 1)[1].split(",data=")[0]
        for r in runs
        if not r.name.startswith("teacher")
    }


def test_a_cell_of_two_tables_runs_once(tmp_path):
    names = [run.name for run in planned(tmp_path, tables=(1, 2, 3), seeds=2)]
    assert names == [
        "teacher_mixup",
        *("baseline-seed0", "distill_mixup-seed0", "low_precision-seed0"),
        *("baseline-seed1", "distill_mixup-seed1", "low_precision-seed1"),
    ]


def test_the_run_that_ends_table_4_begins_table_5_and_is_not_run_again(tmp_path):
    names = [run.name for run in planned(tmp_path, tables=(4, 5, 6), rows=())]
    assert names.count("low_precision-seed0") == 1
    assert "resnet50-seed0" not in names
    assert "efficient-seed0" not in names  # it is resnet50d


def test_table_7_is_places365_whatever_data_other_tables_take(tmp_path):
    runs = planned(tmp_path, "data=digits,model=resnet18d", tables=(7,))
    assert [run.name for run in runs] == [
        "places365-recipe-efficient-seed0",
        "places365-recipe-best-seed0",
    ]
    for run in runs:
        assert run.flags[0].startswith("--config=configs/transfer.py:places365,")
        assert run.config.data.name == "tfds:places365_small"
        assert run.config.data.train_split == "train"
        assert run.config.model.name == "resnet18d"


def test_teachers_come_first_once_and_their_students_name_them(tmp_path):
    runs = planned(tmp_path, seeds=2, rows=("distill", "distill_mixup"))
    assert [run.name for run in runs][:2] == ["teacher", "teacher_mixup"]
    assert len(runs) == 2 + 4
    for run in runs[2:]:
        name = "teacher_mixup" if "mixup" in run.name else "teacher"
        assert run.config.tricks.teacher == str(tmp_path / name)
        assert runs[name == "teacher_mixup"].workdir == tmp_path / name


def test_a_given_teacher_teaches_the_students_and_no_other_row(tmp_path):
    runs = planned(tmp_path, "data=imagenet,teacher=timm:resnet152d")
    teachers = {run.name: run.config.tricks.teacher for run in runs}
    assert teachers.pop("distill-seed0") == "timm:resnet152d"
    assert teachers.pop("distill_mixup-seed0") == "timm:resnet152d"
    assert set(teachers.values()) == {""}


def test_seeds_count_from_0(tmp_path):
    runs = planned(tmp_path, seeds=3, rows=("cosine",))
    assert [run.config.seed for run in runs] == [0, 1, 2]


def test_digits_sweep_over_a_part_of_the_images_unless_told_otherwise(tmp_path):
    (some,) = planned(tmp_path, "data=digits", rows=("cosine",))
    assert some.config.data.train_split == "train[:1000]"
    (other,) = planned(tmp_path, "data=digits,images=4000", rows=("cosine",))
    assert other.config.data.train_split == "train[:4000]"
    (paper,) = planned(tmp_path, rows=("cosine",))
    assert paper.config.data.train_split == "train"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--table=10"], "--table=10 is not allowed; allowed: 1, 2, 3, 4, 5, 6, 7, 8"),
        (["--table=four"], "--table='four' is not allowed"),
        (["--table=6", "--rows=distil"], "row 'distil' is unknown; .*first: distill,"),
        (["--table=6", "--columns=VGG"], "column 'VGG' is unknown; .*MobileNet"),
        (["--table=6", "--seeds=0"], "--seeds=0 is not allowed"),
        (["--table=6", "--config=configs/ablation.py:cosine"], "'cosine' in --config"),
        (["--table=6", "--config=configs/ablation.py:seed=1"], "'seed=1' in --config"),
        (["--table=6", "--config=configs/ablation.py:batch=x"], "batch='x'"),
        (["--table=6", "--config.train.epoch=2"], "'train.epoch' is unknown"),
        (["--tables=6"], "required: --table"),
    ],
)
def test_bad_flags_are_one_error_and_nothing_is_written(
    flags, message, tmp_path, capfd, monkeypatch
):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    assert sweep.main([*flags, f"--workdir={tmp_path / 'd'}"]) == 2
    error = capfd.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not (tmp_path / "d").exists()


def test_the_printed_commands_are_the_runs(tmp_path, capfd):
    flags = [f"--workdir={tmp_path}", "--table=6", "--seeds=2", *TINY]
    assert sweep.main([*flags, "--dry-run"]) == 0
    commands = [shlex.split(line) for line in capfd.readouterr().out.splitlines()]
    assert sweep.main([*flags, "--dry-run=flags"]) == 0
    assert [line.split() for line in capfd.readouterr().out.splitlines()] == [
        command[3:] for command in commands
    ]
    keys, _ = choose_keys(TINY[0].partition(":")[2])
    common = Common(FILE, keys, tuple(TINY[1:]), tmp_path)
    runs = plan(arguments(Choice((6,)), other_networks=False), 2, common)
    assert len(commands) == len(runs) == 2 + 2 * 6
    for command, run in zip(commands, runs, strict=True):
        assert command[:3] == ["python", "-m", "rtj.main"]
        values, config = parse(command[2:])
        assert values.workdir == str(run.workdir)
        assert config_hash(config) == config_hash(run.config)


@pytest.mark.slow
def test_a_sweep_runs_every_row_and_a_second_one_trains_nothing(
    tmp_path, capfd, monkeypatch
):
    assert run(tmp_path, "--json") == 0
    first = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert first["failed"] == first["stopped"] == []
    assert first["done"] == ["cosine-seed0", "label_smoothing-seed0"]
    for name in first["done"]:
        assert rtj.load_run(tmp_path / name).finished
        assert "evaluation at step 4" in (tmp_path / "logs" / f"{name}.log").read_text()
    monkeypatch.setattr("rtj.loop.build", lambda _: pytest.fail("it trains again"))
    assert run(tmp_path, "--json") == 0
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["done"] == first["done"]


@pytest.mark.slow
def test_a_run_that_fails_does_not_stop_the_others_and_gives_its_exit_code(
    tmp_path, capfd
):
    (tmp_path / "cosine-seed0").mkdir()
    (tmp_path / "cosine-seed0" / "thesis.tex").touch()
    assert run(tmp_path, "--json") == 2
    out = capfd.readouterr().out
    summary = json.loads(out.splitlines()[-1])
    assert summary["failed"] == ["cosine-seed0"]
    assert summary["done"] == ["label_smoothing-seed0"]
    assert "holds files but no config.json" in out


@pytest.mark.slow
def test_a_stopped_sweep_says_so_and_goes_on_when_called_again(
    tmp_path, capfd, monkeypatch
):
    real = sweep_run.train

    def stopping(config, workdir, callbacks):
        def stop(step, _):
            if step == 1:
                os.kill(os.getpid(), signal.SIGTERM)

        return real(config, workdir, callbacks=[*callbacks, stop])

    with monkeypatch.context() as patch:
        patch.setattr(sweep_run, "train", stopping)
        assert run(tmp_path, "--json") == 3
    summary = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert (summary["done"], summary["stopped"]) == ([], ["cosine-seed0"])
    assert run(tmp_path) == 0
    log = (tmp_path / "logs" / "cosine-seed0.log").read_text()
    assert "resuming at step" in log


class Terminal(io.StringIO):
    """What is written to a terminal, as it then looks."""

    def __init__(self):
        super().__init__()
        self.lines: list[str] = []
        self.row = 0

    def isatty(self):
        return True

    def write(self, text):
        for part in text.replace("\x1b[2K", "").splitlines():
            if part.startswith("\x1b["):
                up, _, part = part.removeprefix("\x1b[").partition("A")
                self.row -= int(up)
            self.lines[self.row : self.row + 1] = [part]
            self.row += 1
        return len(text)


def test_the_table_of_a_terminal_is_redrawn_in_place():
    terminal = Terminal()
    table = SweepTable(["cosine", "mixup"], terminal)
    table.set("cosine", "done", "top-1 98 %")
    table.set("mixup", "running")
    assert terminal.lines == ["cosine  done     top-1 98 %", "mixup   running"]
