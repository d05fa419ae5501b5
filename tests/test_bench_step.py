"""`rtj.bench step`: the peers are what they claim, the sums right, nobody missing."""

import json
import subprocess
import sys

import numpy as np
import pytest

from rtj.bench import __main__ as bench
from rtj.bench import (
    child,
    our_step,
    peaks,
    peer_flax,
    step_contest,
    step_speed,
    step_work,
)
from rtj.bench.step_contestants import Contest, Contestant
from rtj.bench.step_work import Running, Work

WORK = Work("train", "resnet50b", 24, 64, "bf16", "cpu", False)
FACTS = {"network": "resnet50b"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("peer", "mode"), [("rtj", "train"), ("flax", "train"), ("flax", "inference")]
)
def test_a_contestant_really_trains_and_infers(peer, mode, monkeypatch):
    monkeypatch.setitem(peer_flax.STAGE_SIZES, "resnet10b", (1,))
    monkeypatch.setattr(peer_flax, "_IMAGES", 4)  # or the warmup is too long to learn
    work = Work(mode, "resnet10b", 4, 32, "fp32", "cpu", False)
    running = (our_step if peer == "rtj" else peer_flax).make(work)
    assert running.bytes_accessed > 1e6
    assert running.facts["network"] == "resnet10b"
    results = []
    for _ in range(3):  # the first has a learning rate of 0
        running.step()
        results.append(running.finish())
    if mode == "inference":
        assert len(set(results)) == 1
        assert 0 <= results[0] < 1000
    else:  # near the loss of a network that knows nothing
        assert results[1] != results[2]
        np.testing.assert_allclose(results, np.log(1000), rtol=0.3)


def test_the_peaks_are_of_work_that_was_done(monkeypatch):
    monkeypatch.setattr(peaks, "_SIDES", (64, 128))
    monkeypatch.setattr(peaks, "_FLOATS_CPU", 2**16)
    monkeypatch.setattr(peaks, "_best", lambda run: run().size * 1e-6)
    found = peaks.measure("bf16")
    # The first side takes 4 ms, which is too little, the other 16 ms.
    assert found["matmul_tflops"] == pytest.approx(2 * 128**3 / 0.016384 / 1e12)
    assert found["bandwidth_gb_per_s"] == pytest.approx(12 * 2**16 / 0.065536 / 1e9)
    assert found["platform"] == "cpu" and found["threads"] > 0


def test_rtj_runs_the_row_efficient_with_statistics_of_the_whole_batch():
    config = our_step.make_config(WORK)
    assert (config.model.name, config.model.bn_group_size) == ("resnet50b", 24)
    assert (config.train.batch_size, config.data.image_size) == (24, 64)
    tricks = config.tricks
    assert (tricks.precision, tricks.no_bias_decay, tricks.zero_gamma) == (
        "bf16",
        True,
        True,
    )
    assert config.mesh.devices == 1


class Clock:
    """A device whose every step takes half a second of a clock of its own."""

    def __init__(self, result=1.0):
        self.now, self.queued, self.result = 0.0, 0, result

    def step(self):
        self.queued += 1

    def finish(self):
        self.now += 0.5 * self.queued
        self.queued = 0
        return self.result

    def running(self):
        return Running(self.step, self.finish, FACTS, bytes_accessed=7.0)


def test_steps_that_queue_up_are_waited_for(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(step_work.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(step_work.time, "process_time", lambda: 2 * clock.now)
    found = step_work.rates(clock.running(), batch=10, seconds=3)
    assert found == {"images_per_s": 20, "images_per_cpu_s": 10}
    # 3 to warm up, 2 to see how long one takes, 6 in 3 seconds.
    assert clock.now == 0.5 * (3 + 2 + 6)


def test_a_contestant_that_computes_nonsense_or_raises_is_an_error():
    turn = step_contest._turn(lambda work: Clock(float("nan")).running(), WORK, 1.0)
    assert turn == {"error": "ValueError: the steps give nan"}

    def fail(work):
        raise RuntimeError("out of memory\nand a page about it")

    assert step_contest._turn(fail, WORK, 1.0) == {
        "error": "RuntimeError: out of memory"
    }


def reply(rate, moved=None, **facts):
    rates = {"images_per_s": rate, "images_per_cpu_s": rate / 2}
    return rates | {"bytes_accessed": moved, "facts": FACTS | facts}


def peak(tflops, bandwidth, platform="gpu"):
    device = {"platform": platform, "name": "X", "jax": "1", "threads": 4}
    return device | {"matmul_tflops": tflops, "bandwidth_gb_per_s": bandwidth}


def test_ratios_are_of_medians_and_fractions_of_the_best_peak():
    contest = Contest(batch=100)
    macs = 4 * 10**9
    replies = {
        "rtj": {
            "train": [reply(rate, 5e10, macs=macs) for rate in (900.0, 1000.0, 5000.0)],
            "inference": [reply(4000.0, 1e10, macs=macs)],
        },
        "torch": {"train": [reply(800.0)], "inference": [{"error": "no memory"}]},
        "flax": {"train": [reply(500.0, 1e11)], "inference": [reply(2000.0)]},
    }
    peaks = [peak(96.0, 900.0), peak(100.0, 1000.0)]
    result = step_speed.summary(contest, peaks, replies, {"x": "is not here"})
    train, inference = result["train"], result["inference"]
    assert train["images_per_s"] == {"rtj": 1000, "torch": 800, "flax": 500}
    assert train["turns"]["rtj"] == [900, 1000, 5000]
    assert (train["ratio_torch"], train["ratio_flax"]) == (1.25, 2.0)
    assert (inference["ratio_torch"], inference["ratio_flax"]) == (None, 2.0)
    # 1,000 images/s of 3 x 2 x 4 GFLOP are 24 TFLOP/s of 100.
    assert train["matmul_fraction"]["rtj"] == pytest.approx(0.24)
    assert inference["matmul_fraction"]["rtj"] == pytest.approx(0.32)
    # 10 steps/s of 50 GB are 500 GB/s of 1,000.
    fractions = train["bandwidth_fraction"]
    assert fractions == {"rtj": pytest.approx(0.5), "flax": pytest.approx(0.5)}
    assert result["not_run"] == {"x": "is not here", "torch, inference": "no memory"}
    table = step_speed.describe(result)
    for shown in ("1.25x", "24.0 %", "50.0 %", "not run: torch, inference: no memory"):
        assert shown in table
    assert "images_per_cpu_s" not in train
    on_cpu = step_speed.summary(contest, [peak(1.0, 1.0, "cpu")], replies, {})
    assert on_cpu["train"]["images_per_cpu_s"] == {
        "rtj": 500,
        "torch": 400,
        "flax": 250,
    }
    json.dumps(result)


def test_contestants_take_turns_and_who_cannot_run_is_named(monkeypatch):
    asked = []

    def turn(contestant, contest, platform, environment):
        asked.append(contestant.name)
        assert platform == "gpu"
        if contestant.name == "flax":
            return {"train": {"error": "no memory"}}
        return {"train": reply(10.0, macs=1)}

    monkeypatch.setattr(step_speed, "_peaks", lambda *_: peak(1.0, 1.0))
    monkeypatch.setattr(step_speed, "turn", turn)
    monkeypatch.setattr(
        "rtj.bench.step_contestants.is_installed", lambda package, _: package != "timm"
    )
    result = step_speed.measure(Contest(turns=3, modes=("train",)))
    assert asked == ["rtj", "flax", "rtj", "rtj"]
    assert result["train"]["turns"] == {"rtj": [10, 10, 10]}
    assert result["not_run"] == {
        "torch": f"timm is not installed for {sys.executable}",
        "flax": "no memory",
    }


def test_a_package_is_looked_for_in_the_python_that_would_run_it(tmp_path):
    other = tmp_path / "python"  # the same program, without this one's packages
    other.symlink_to(sys.executable)
    for python in (sys.executable, str(other)):
        assert child.is_installed("json", python)
        assert not child.is_installed("no_such_package", python)
        lame = Contestant("torch", ("json", "no_such_package"), "", "", python)
        assert lame.why_not() == f"no_such_package is not installed for {python}"


def test_flax_is_left_out_where_its_example_has_no_such_network():
    assert Contestant("flax", (), "", "resnet50b").why_not() is None
    assert "not resnet50d" in str(Contestant("flax", (), "", "resnet50d").why_not())


def test_another_python_is_lent_rtj_and_says_what_it_cannot_import(
    tmp_path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    other = tmp_path / "python"
    other.symlink_to(sys.executable)
    environment = child.lend_rtj(str(other), tmp_path)
    order = {"entry": "rtj.bench.nowhere:make"}
    module = "rtj.bench.step_contest"
    found = child.ask(module, order, python=str(other), environment=environment)
    assert "rtj.bench.nowhere:make cannot be imported" in found["error"]


def test_pytorchs_contestant_needs_no_jax():
    program = (
        "import sys; from unittest.mock import MagicMock\n"
        "sys.modules |= {name: MagicMock() for name in ('torch', 'timm')}\n"
        "sys.modules |= dict.fromkeys(['jax', 'flax', 'numpy', 'ml_collections'])\n"
        "import rtj.bench.step_contest, rtj.bench.peer_torch"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--peers=tensorflow", "'tensorflow' is none of"),
        ("--peers=flax,flax", "each once"),
        ("--mode=", "each once, of train, inference"),
        ("--network=resnet9", "invalid choice"),
        ("--precision=fp8", "invalid choice"),
        ("--batch=0", "--batch=0: 1 or more"),
        ("--size=31", "--size=31: 32 or more"),
        ("--turns=0", "--turns=0: 1 or more"),
        ("--seconds=0", "--seconds=0.0: more than 0"),
        ("--torch_python=/no/python", "--torch_python='/no/python' is no program"),
        ("--torch_compile=maybe", "invalid choice"),
    ],
)
def test_a_bad_flag_is_one_line_that_says_what_is_allowed(flag, message, capsys):
    assert bench.main(["step", flag]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.slow
def test_rtj_and_the_flax_example_run_in_processes_of_their_own(capsys, monkeypatch):
    monkeypatch.setattr(step_speed, "_peaks", lambda *_: peak(0.1, 10.0, "cpu"))
    flags = ["--network=resnet14b", "--batch=4", "--size=32", "--precision=fp32"]
    flags += ["--peers=flax", "--mode=inference", "--seconds=0.1", "--turns=1"]
    assert bench.main(["step", *flags, "--json"]) == 0
    table, text = capsys.readouterr().out.rsplit("\n", 2)[:2]
    result = json.loads(text)
    assert result["not_run"] == {}
    found = result["inference"]
    rates = found["images_per_s"]
    assert set(rates) == {"rtj", "flax"} and min(rates.values()) > 0
    assert found["ratio_flax"] == rates["rtj"] / rates["flax"]
    assert found["ratio_torch"] is None
    assert min(found["bytes_accessed"].values()) > 0
    assert result["contestants"]["flax"]["network"] == "resnet14b"
    assert "train" not in result
    assert table.startswith("X (cpu)")
