"""`rtj.faults`: whatever kills a run, it ends with the same bits."""

import json
import random
import shutil

import numpy as np
import pytest

import rtj
from rtj.checkpoint import newest_step
from rtj.faults import __main__ as faults
from rtj.faults.compare import differences
from rtj.faults.plan import make_plan
from rtj.faults.victim import flip_a_bit
from rtj.metrics import METRICS_FILE
from tests.checkpoint.states import save_steps


def test_a_plan_is_a_function_of_the_seed_and_has_every_kind_of_fault():
    plan = make_plan(50, seed=0, stride=12)
    assert plan == make_plan(50, seed=0, stride=12)
    assert plan != make_plan(50, seed=1, stride=12)
    kinds = {(fault.signal, fault.when) for fault in plan}
    assert kinds >= {(s, w) for s in ("SIGKILL", "SIGTERM") for w in ("step", "save")}
    assert "start" in {fault.when for fault in plan}
    assert 0 < sum(fault.damage for fault in plan) < 25
    assert all(0 <= fault.after < 12 for fault in plan)


def test_only_the_newest_of_several_checkpoints_is_damaged_by_one_bit(tmp_path):
    save_steps(tmp_path / "one", [10])
    assert flip_a_bit(tmp_path / "one", random.Random(0)) is None
    save_steps(tmp_path / "two", [10, 20])
    before = shutil.copytree(tmp_path / "two", tmp_path / "before")
    name = flip_a_bit(tmp_path / "two", random.Random(0))
    assert name is not None and name.startswith("20/")
    changed = 0
    for path in (p for p in before.rglob("*") if p.is_file()):
        old = np.frombuffer(path.read_bytes(), np.uint8)
        new = (tmp_path / "two" / path.relative_to(before)).read_bytes()
        changed += int(np.unpackbits(old ^ np.frombuffer(new, np.uint8)).sum())
    assert changed == 1


@pytest.mark.slow
def test_two_runs_that_differ_anywhere_are_told_apart(tmp_path):
    config = faults.small_config(3)
    one, other = tmp_path / "one", tmp_path / "other"
    rtj.train(config, one)
    shutil.copytree(one, other)
    assert differences(config, one, other) == []

    metrics = other / METRICS_FILE
    text = metrics.read_text()
    metrics.write_text(text.replace('"loss": ', '"loss": 1', 1))
    assert "metrics: " in differences(config, one, other)[0]
    metrics.write_text(text.split("\n", 1)[1])
    assert "lines" in differences(config, one, other)[0]
    metrics.write_text(text)

    with np.load(other / "predictions.npz") as file:
        arrays = dict(file)
    arrays["prediction"][7] += 1
    np.savez(other / "predictions.npz", **arrays)
    assert differences(config, one, other) == ["predictions: prediction"]

    config.seed = 1
    shutil.rmtree(other)
    rtj.train(config, other)
    found = differences(config, one, other)
    assert any(line.startswith("state.opt_state") for line in found)
    assert any(line.startswith("state.batch_stats") for line in found)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--kills=0"], "--kills=0; allowed: 1 or more"),
        (["--out=."], "--out='.' exists; allowed: a new folder"),
    ],
)
def test_bad_flags_are_one_line(flags, message, capsys):
    assert faults.run(flags) == 2
    assert capsys.readouterr().err == f"rtj: {message}\n"


def torment(folder, kills, steps, seed, capsys):
    numbers = [f"--kills={kills}", f"--steps={steps}", f"--seed={seed}"]
    argv = [*numbers, f"--out={folder}", "--json"]
    code = faults.run(argv)
    out = capsys.readouterr().out
    summary = json.loads(out.splitlines()[-1])
    assert code == 0, out
    assert newest_step(folder / "killed" / "checkpoints") == steps
    assert summary["differences"] == 0
    return summary


@pytest.mark.slow
def test_a_run_that_is_killed_three_times_ends_with_the_same_bits(tmp_path, capsys):
    summary = torment(tmp_path / "out", 3, 40, 4, capsys)
    assert summary["kills"] == 3
    assert summary["in_save"] > 0


@pytest.mark.exhaustive
def test_a_run_that_is_killed_fifty_times_ends_with_the_same_bits(tmp_path, capsys):
    summary = torment(tmp_path / "out", 50, 400, 0, capsys)
    assert summary["kills"] >= 45  # a few may come after the end
    assert summary["in_save"] > 5
    assert summary["damaged"] > 0
