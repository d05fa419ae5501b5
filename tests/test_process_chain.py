"""One workdir, two processes, and what clusters do to them, one after another."""

import re
import signal

import pytest

from rtj.metrics import read_metrics
from tests.process_runs import assert_all_end, run_processes

TOGETHER = True  # on one worker: the runs that they share take two minutes
pytestmark = pytest.mark.slow

# What happens to which process in the runs of one workdir, each of which goes on from
# the last checkpoint (every second step) of the one before it.
FAULTS: tuple[dict[int, str], ...] = (
    {1: "SIGKILL:4"},
    {0: "stuck:4"},
    {1: "SIGSTOP:4"},
    {1: "SIGTERM:save"},
    {0: "SIGUSR1:evaluation"},
    {},
)


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """The workdir, and by fault: the processes and the step of the start."""
    folder = tmp_path_factory.mktemp("faulty")
    workdir, ended = folder / "run", {}
    flags = [
        f"--workdir={workdir}",
        "--config.train.steps=32",
        "--config.train.save_every=0.016",  # of 125 steps an epoch: 2
        "--config.train.eval_every=0.064",
    ]
    for fault in FAULTS:
        stall = 6 if "stuck" in str(fault) else 600
        own = [*flags, f"--config.train.stall_s={stall}"]
        processes = run_processes(folder, (2, 1), own, faults=fault, timeout=150)
        begun = re.search(r"resuming at step (\d+)", processes[0].out)
        name = "".join(fault.values())
        ended[name] = processes, int(begun[1]) if begun else 0
    return workdir, ended


def test_a_process_that_is_killed_ends_the_others_within_the_heartbeat(faulty):
    survivor, killed = faulty[1]["SIGKILL:4"][0]
    assert killed.code == -signal.SIGKILL
    assert survivor.code in (-signal.SIGABRT, 1), survivor.err


def test_a_process_that_is_stuck_ends_all_with_7_and_each_shows_its_stacks(faulty):
    workdir, ended = faulty
    processes, begun = ended["stuck:4"]
    assert begun in (2, 4)
    assert_all_end(
        processes, 7, r"rtj: process \d of 2 .*: no progress for \d+ s at step"
    )
    assert sum("was the first to notice" in p.err for p in processes) <= 1
    for index, stuck_in in enumerate(("in fail", "reporter.py")):
        assert stuck_in in (workdir / f"stacks-{index}.txt").read_text()
        assert stuck_in in processes[index].err


def test_a_process_that_is_stopped_ends_the_others_and_itself_once_it_goes_on(faulty):
    (survivor, stopped), begun = faulty[1]["SIGSTOP:4"]
    assert begun >= 4
    assert survivor.code in (-signal.SIGABRT, 1), survivor.err
    assert stopped.code not in (0, 3)


@pytest.mark.parametrize("fault", ["SIGTERM:save", "SIGUSR1:evaluation"])
def test_a_signal_during_a_save_or_an_evaluation_stops_all_at_one_step(faulty, fault):
    processes, begun = faulty[1][fault]
    name = fault.partition(":")[0]
    message = rf"rtj: {name} at process \d: saved step \d+ of 32"
    assert_all_end(processes, 3, message)
    assert len({tuple(re.findall(message, process.err)) for process in processes}) == 1
    assert begun >= 8


def test_after_all_of_it_the_run_ends_with_every_step_written_once(faulty):
    workdir, ended = faulty
    assert [process.code for process in ended[""][0]] == [0, 0]
    rows = read_metrics(workdir)
    assert [r["step"] for r in rows if r["kind"] == "train"] == list(range(1, 33))
    assert [r["step"] for r in rows if r["kind"] == "eval"] == [8, 16, 24, 32]
