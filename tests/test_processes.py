"""Real processes: the same run on any layout, one end for all, faults that are named.

All runs are of four devices, as 1 x 4, 2 x 2 or 4 x 1 processes x devices.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import rtj
from rtj.data import order
from rtj.main import parse
from rtj.metrics import read_metrics

ROOT = Path(__file__).resolve().parents[1]
STEPS, BATCH, EXAMPLES = 20, 32, 4000
FLAGS = [
    f"--config={ROOT}/configs/ablation.py:zero_gamma,data=digits",
    "--config.model.small_images=True",
    # Of two devices: of one process in 2 x 2, of two in 4 x 1.
    "--config.model.bn_group_size=16",
    f"--config.train.batch_size={BATCH}",
    f"--config.train.steps={STEPS}",
    "--config.train.log_every=1",
    "--config.train.eval_every=0.0",
    "--config.train.save_every=0.0",
    "--config.data.image_size=14",
    "--config.data.eval_resize=14",
    "--config.data.eval_split=test[:37]",
    # CALM of test_steps.py.
    "--config.tricks.base_lr=0.001",
    "--config.tricks.warmup_epochs=0.0",
    "--config.model.width=8",
]
LAYOUTS = {"1x4": (1, 4), "2x2": (2, 2), "4x1": (4, 1)}


@dataclass
class Process:
    """What one process left."""

    code: int
    out: str
    err: str
    seen: list


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run_processes(
    folder, layout, flags=(), faults=None, started=None, folders=None, timeout=150
):
    """Runs FLAGS and `flags` in processes of `layout`; their ends, in order.

    `faults`, `folders` (current directories) and lists in `flags` are by process;
    only the first `started` processes are started.
    """
    count, devices = LAYOUTS[layout] if isinstance(layout, str) else layout
    folder.mkdir(parents=True, exist_ok=True)
    port, children = free_port(), []
    for index in range(count if started is None else started):
        seen = folder / f"seen-{index}.json"
        seen.unlink(missing_ok=True)
        fault = (faults or {}).get(index, "")
        own = [flag[index] if isinstance(flag, list) else flag for flag in flags]
        cluster = [
            f"--coordinator=localhost:{port}",
            f"--processes={count}",
            f"--process={index}",
        ]
        command = [sys.executable, str(ROOT / "tests/process_worker.py"), str(seen)]
        command += [fault, *FLAGS, *own, *(cluster if count > 1 else [])]
        own_env = {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(ROOT)}
        with (
            (folder / f"{index}.out").open("w") as out,
            (folder / f"{index}.err").open("w") as err,
        ):
            child = subprocess.Popen(
                command,
                cwd=folders[index] if folders else folder,
                env=os.environ | own_env,
                stdout=out,
                stderr=err,
            )
        children.append(child)
    end = time.monotonic() + timeout
    try:
        codes = [c.wait(max(end - time.monotonic(), 0.1)) for c in children]
    finally:
        for child in children:
            child.kill()
    ended = []
    for index, code in enumerate(codes):
        seen = folder / f"seen-{index}.json"
        ended.append(
            Process(
                code,
                (folder / f"{index}.out").read_text(),
                (folder / f"{index}.err").read_text(),
                json.loads(seen.read_text()) if seen.exists() else [],
            )
        )
    return ended


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


WAIT = "--config.mesh.wait_s=10"


def assert_all_end(processes, code, message):
    for process in processes:
        assert process.code == code, process.err
        assert re.search(message, process.err), process.err
        assert "Traceback" not in process.err


def test_a_process_with_another_config_is_named(tmp_path):
    steps = [f"--config.train.steps={n}" for n in (20, 21)]
    flags = [WAIT, steps, f"--workdir={tmp_path / 'run'}"]
    processes = run_processes(tmp_path, (2, 1), flags, timeout=60)
    message = r"process 1 \(.+\) has config train\.steps 21; process 0 \(.+\) has 20"
    assert_all_end(processes, 2, message)
    assert not (tmp_path / "run").exists()


def make_photos(folder: Path, per_class: int) -> Path:
    from PIL import Image

    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (folder / "photos" / split / label).mkdir(parents=True)
            for number in range(per_class):
                color = (number, 50, 200 if label == "cat" else 0)
                path = folder / "photos" / split / label / f"{number}.png"
                Image.new("RGB", (16, 16), color).save(path)
    return folder


def test_a_process_with_other_images_is_named(tmp_path):
    # The same name, in the processes' own directories.
    folders = [make_photos(tmp_path / f"host{i}", 20 + i) for i in range(2)]
    flags = [
        WAIT,
        "--config.data.name=folder:photos",
        "--config.data.eval_split=val",
        f"--workdir={tmp_path / 'run'}",
    ]
    processes = run_processes(tmp_path, (2, 1), flags, folders=folders, timeout=60)
    message = (
        r"process 1 \(.+\) has train images 42; process 0 \(.+\) has 40; "
        r"process 1 .+ has train fingerprint \w+; process 0"
    )
    assert_all_end(processes, 5, message)
    assert not (tmp_path / "run").exists()


def test_a_workdir_that_one_process_has_for_itself_is_named(tmp_path):
    folders = [tmp_path / name for name in ("host0", "host1")]
    for folder in folders:
        folder.mkdir()
    processes = run_processes(
        tmp_path, (2, 1), [WAIT, "--workdir=run"], folders=folders, timeout=60
    )
    message = r"workdir='run' is not one folder .* not seen by process 1 \("
    assert_all_end(processes, 2, message)
    assert not (folders[0] / "run/checkpoints").exists()


def test_a_process_that_never_starts_is_named(tmp_path):
    flags = [WAIT, f"--workdir={tmp_path / 'run'}"]
    begun = time.monotonic()
    processes = run_processes(tmp_path, (3, 1), flags, started=2, timeout=60)
    message = r"process 2 of 3 not seen at the start within 10 s; there: 0 \(.+\), 1 \("
    assert_all_end(processes, 7, message)
    assert time.monotonic() - begun < 40


def test_without_process_0_the_others_say_so(tmp_path):
    flags = [
        "--config.mesh.wait_s=3",
        f"--workdir={tmp_path / 'run'}",
        f"--coordinator=localhost:{free_port()}",
        "--processes=2",
        "--process=1",
    ]
    processes = run_processes(tmp_path, (1, 1), flags, timeout=60)
    assert_all_end(processes, 7, r"process 0 of 2 not seen at localhost:\d+ within 3 s")


@pytest.mark.slow
def test_a_process_about_to_run_another_program_is_named(tmp_path):
    flags = [WAIT, f"--workdir={tmp_path / 'run'}"]
    processes = run_processes(tmp_path, (2, 2), flags, faults={1: "program"})
    assert_all_end(processes, 2, r"process 1 .* has StableHLO of the train step \w+;")
    assert read_metrics(tmp_path / "run") == []


@pytest.mark.slow
def test_an_error_of_one_process_ends_all_with_its_code_and_message(tmp_path):
    flags = [f"--workdir={tmp_path / 'run'}"]
    processes = run_processes(tmp_path, "2x2", flags, faults={1: "DataError:4"})
    assert_all_end(processes, 5, "the disk of this host is gone")
    assert re.search(r"process 1 \(.+\) failed", processes[0].err)


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_others(tmp_path):
    flags = [f"--workdir={tmp_path / 'run'}"]
    faults = {1: "SIGKILL:4"}
    processes = run_processes(tmp_path, "2x2", flags, faults=faults, timeout=120)
    assert processes[1].code == -signal.SIGKILL
    assert processes[0].code not in (0, 3)
