"""Real processes: the same run on any layout, one end for all.

All runs are of four devices, as 1 x 4, 2 x 2 or 4 x 1 processes x devices.
"""

import json
import os
import re

import numpy as np
import pytest

import rtj
from rtj.data import order
from rtj.main import parse
from rtj.metrics import read_metrics
from tests.process_runs import BATCH, EXAMPLES, FLAGS, LAYOUTS, STEPS, run_processes

TOGETHER = True  # on one worker: the runs that they share take two minutes


def ids(processes):
    """The example indices of each global batch, from the rows of all processes."""
    batches = []
    for parts in zip(*(process.seen for process in processes), strict=True):
        rows = sorted(row for part in parts for row in part)
        starts = [start for start, _ in rows]
        assert starts == list(range(0, BATCH, BATCH // len(rows)))
        batches.append(np.concatenate([values for _, values in rows]))
    return batches


def wanted_ids():
    return [order.example_ids(0, BATCH, EXAMPLES, step) for step in range(STEPS)]


def losses(workdir):
    rows = [row for row in read_metrics(workdir) if row["kind"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    return np.array([row["loss"] for row in rows])


def result_of(process):
    return json.loads(process.out.splitlines()[-1])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Each layout's run: {layout: (workdir, processes)}."""
    folder, ended = tmp_path_factory.mktemp("layouts"), {}
    for layout in LAYOUTS:
        workdir = folder / layout / "run"
        processes = run_processes(folder / layout, layout, [f"--workdir={workdir}"])
        assert [p.code for p in processes] == [0] * len(processes), processes[-1].err
        ended[layout] = workdir, processes
    return ended


@pytest.mark.slow
def test_every_layout_sees_the_same_examples_and_the_same_losses(runs):
    for _, processes in runs.values():
        np.testing.assert_array_equal(ids(processes), wanted_ids())
    found = {layout: losses(workdir) for layout, (workdir, _) in runs.items()}
    np.testing.assert_allclose(found["2x2"], found["1x4"], atol=1e-5)
    np.testing.assert_array_equal(found["2x2"], found["4x1"])


@pytest.mark.slow
def test_only_process_0_prints_and_its_result_is_the_files(runs):
    for workdir, processes in runs.values():
        result = json.loads((workdir / "result.json").read_text())
        assert result_of(processes[0]) == result
        assert "step 20/20" in processes[0].out
        for process in processes[1:]:
            printed = [x for x in process.out.splitlines() if "[Gloo]" not in x]
            assert printed == []
        start = json.loads((workdir / "starts.jsonl").read_text())
        assert start["process_count"] == len(processes)


@pytest.mark.slow
def test_four_processes_count_37_examples_as_one_device_does(runs):
    workdir, processes = runs["4x1"]
    flags = [*FLAGS, "--config.mesh.devices=1", f"--workdir={workdir}"]
    alone = rtj.evaluate(parse(["rtj.main", *flags])[1], workdir)
    together = result_of(processes[0])
    assert together["examples"] == alone["examples"] == 37
    assert (together["top1"], together["top5"]) == (alone["top1"], alone["top5"])
    assert together["loss"] == pytest.approx(alone["loss"], abs=1e-5)
    with np.load(workdir / "predictions.npz") as rows:
        assert rows["index"].tolist() == list(range(37))
        assert (rows["label"] == rows["prediction"]).mean() == together["top1"]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A run stopped on 2 x 2, gone on with and stopped on 4 x 1, ended on 1 x 4.

    A signal goes to the last process only, before its 6th batch.
    """
    folder = tmp_path_factory.mktemp("chain")
    flags, ended, saved = [f"--workdir={folder / 'run'}"], [], []
    for layout in ("2x2", "4x1"):
        last = LAYOUTS[layout][0] - 1
        ended.append(
            run_processes(folder / layout, layout, flags, faults={last: "SIGTERM:5"})
        )
        saved.append(os.listdir(folder / "run/checkpoints"))
    ended.append(run_processes(folder / "1x4", "1x4", flags))
    return folder / "run", ended, saved


def saved_step(process):
    said = r"SIGTERM at process [13]: saved step (\d+) of 20"
    found = re.search(said, process.err)
    assert found, process.err
    return int(found[1])


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_saved_step(chain):
    _, ended, saved = chain
    first = 0
    for processes, on_disk in zip(ended[:2], saved, strict=True):
        assert {p.code for p in processes} == {3}, processes[0].err
        steps = {saved_step(process) for process in processes}
        assert len(steps) == 1
        assert str(max(steps)) in on_disk
        assert 6 <= max(steps) - first <= 8
        first = max(steps)
    assert [p.code for p in ended[2]] == [0], ended[2][0].err


@pytest.mark.slow
def test_another_layout_goes_on_with_exactly_the_next_examples(chain, runs):
    workdir, ended, _ = chain
    seen = [batch for processes in ended for batch in ids(processes)]
    np.testing.assert_array_equal(seen, wanted_ids())
    np.testing.assert_allclose(losses(workdir), losses(runs["1x4"][0]), atol=1e-5)
