"""The command: its errors, and plans of a v5e slice where libtpu is installed."""

import importlib.util
import json
from pathlib import Path

import pytest

from rtj.models import model_summary
from rtj.plan import __main__ as command

ROOT = Path(__file__).resolve().parents[2]


CONFIG = "--config=configs/ablation.py:efficient,data=imagenet"


def test_without_libtpu_the_error_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert command.main([CONFIG, "--topology=v5e:2x4"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "libtpu" in line and "pip install 'rtj[plan]'" in line


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ([CONFIG], "--topology"),
        (["--topology=v5e:2x4"], "--config is missing"),
        ([CONFIG, "--topology=v5e:2x5"], "allowed: 1x1, 2x2"),
        ([CONFIG, "--topology=v5e:2x4", "--batch=100"], "100"),
        ([CONFIG, "--topology=v5e:2x4", "--config.train.batch=8"], "train.batch"),
        ([CONFIG, "--topology=v5e:2x4", "--compare=configs/no.py"], "no.py"),
        ([CONFIG, "--topology=v5e:2x4", "--batches=8"], "--batches=8"),
    ],
)
def test_bad_flags_end_with_2_and_one_line(capsys, flags, part):
    assert command.main(flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line


NEEDS = "libtpu, the TPU compiler, is the extra 'plan'"


TINY = [
    "--config=configs/ablation.py:low_precision,data=digits",
    "--topology=v5e:2x4",
    "--json",
    "--config.model.width=4",
    "--config.model.small_images=True",
    "--config.model.bn_group_size=8",
    "--config.data.image_size=14",
    "--config.data.eval_resize=14",
]


@pytest.fixture(scope="module")
def plan_here(run_rtj):
    """Runs the tool in a process of its own, where libtpu is installed."""
    pytest.importorskip("libtpu", reason=NEEDS)

    def run(*flags):
        done = run_rtj([*TINY, *flags], module="rtj.plan")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


@pytest.mark.slow
def test_a_real_step_for_v5e_has_three_all_reduces_and_fits(plan_here, promised):
    plan = plan_here("--batch=64")
    assert promised <= set(plan)
    assert plan["fits"] is True
    assert plan["hbm_bytes"] == 16 * 2**30
    assert 1 <= plan["all_reduces"] <= 3
    assert set(plan["collectives"]) == {"all-reduce"}
    # Twice 4 bytes a parameter, the momentum beside them, are the least of it.
    parameters = model_summary(
        "resnet14", width=4, small_images=True, num_classes=10
    ).parameters
    assert plan["memory_bytes"] > plan["temp_bytes"] + 2 * 4 * parameters
    # A gradient for each parameter, in 2 or 4 bytes, and batch norm's statistics.
    assert 2 * parameters < plan["collective_bytes"] < 4.4 * parameters
    macs = model_summary(
        "resnet14", 14, width=4, small_images=True, num_classes=10
    ).macs
    # At width 4 what is no product is a third.
    assert 1 < plan["flops"] / (3 * 2 * macs * 8) < 1.5
    assert plan["max_batch"] is None


@pytest.mark.slow
def test_a_batch_that_cannot_fit_is_a_plan_too(plan_here):
    plan = plan_here(f"--batch={2**24}")
    assert plan["fits"] is False
    assert plan["memory_bytes"] > plan["hbm_bytes"]
    assert plan["step_s"] is None and plan["max_batch"] is None


def test_every_chip_of_every_kind_is_one_device(run_python):
    pytest.importorskip("libtpu", reason=NEEDS)
    code = (
        "from rtj.plan import aot, chips\n"
        "aot.prepare_host()\n"
        "for text in ('v4:2x2x2', 'v5e:1x1', 'v5e:4x4', 'v5p:4x4x4', 'v6e:2x4'):\n"
        "    topology = chips.parse_topology(text)\n"
        "    assert aot.topology_mesh(topology).size == topology.chips, text\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
