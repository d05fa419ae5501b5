"""launch/slurm.sbatch with a fake srun, scontrol and scancel."""

import re
from pathlib import Path

import pytest

from tests.cluster_fakes import ROOT, Cluster

# All of sbatch's options that a job script of ours may need, from
# doc/man/man1/sbatch.1 of Slurm 26.11, with the values they take.
DIRECTIVES = {
    "account": r"\S+",
    "cpus-per-task": r"\d+",
    "gpus-per-node": r"(\w+:)?\d+",
    "job-name": r"\S+",
    "nodes": r"\d+(-\d+)?",
    "ntasks-per-node": r"\d+",
    "open-mode": r"append|truncate",
    "output": r"[^%]*(%[jxAaNu][^%]*)*",
    "partition": r"\S+",
    "requeue": None,
    "signal": r"([RB]:)?[A-Z0-9]+@\d+",
    "time": r"(\d+-)?\d+(:\d\d){0,2}",
}


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def directives() -> dict[str, str]:
    text = (ROOT / "launch/slurm.sbatch").read_text()
    head = text[: text.index("\nset -euo pipefail")]
    assert text.count("#SBATCH") == head.count("#SBATCH")  # sbatch reads no further
    found = re.findall(r"^#SBATCH --([a-z-]+)=?(.*)$", head, re.M)
    assert len(found) == head.count("#SBATCH")
    return dict(found)


def test_every_directive_is_one_of_sbatchs():
    for option, value in directives().items():
        pattern = DIRECTIVES[option]
        assert value == "" if pattern is None else re.fullmatch(pattern, value)


def test_directives_queue_a_preempted_job_again_and_leave_time_to_save():
    found = directives()
    assert "requeue" in found
    assert found["signal"] == "B:TERM@120"
    assert found["open-mode"] == "append"
    assert found["ntasks-per-node"] == found["gpus-per-node"]


def test_processes_run_through_srun_with_a_log_each(cluster):
    result = cluster.slurm("--config=a b", "", "--x='$HOME'")
    assert result.code == 0, result.err
    for task in range(2):
        assert cluster.args(task) == ["--config=a b", "", "--x='$HOME'"]
        log = cluster.root / f"logs/77/{task}.log"
        assert log.read_text() == f"log of {task}\n"
    (call,) = cluster.lines("srun")
    assert call.startswith("--kill-on-bad-exit=1 ")
    assert "--cpus-per-task=6 " in call
    assert "--ntasks" not in call
    assert cluster.lines("pip") == [".[cuda,digits]"]


def test_one_process_a_node_gets_all_its_cores(cluster):
    assert cluster.slurm("--x", TASKS="node").code == 0
    assert (
        "--ntasks=2 --ntasks-per-node=1 --cpus-per-task=48" in cluster.lines("srun")[0]
    )


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5, 6, 7, 134])
def test_only_a_saved_stop_is_queued_again(cluster, code):
    result = cluster.slurm("--x", FAKE_EXIT=str(code))
    assert result.code == code
    expected = ["requeue Incomplete 77"] if code == 3 else []
    assert cluster.lines("scontrol") == expected


def test_a_refused_requeue_is_said(cluster):
    result = cluster.slurm("--x", FAKE_EXIT="3", FAKE_REQUEUE="1")
    assert result.code == 3
    assert "not queued again" in result.err


def test_the_code_of_the_process_that_failed_first_is_returned(cluster):
    # srun's own is the highest: 143, of one that it ended because of the first.
    env = {"FAKE_EXIT_0": "0", "FAKE_EXIT_1": "2", "FAKE_EXIT_2": "143"}
    result = cluster.slurm("--x", FAKE_TASKS="3", FAKE_NOTE_2="Terminated", **env)
    assert result.code == 2
    assert "task 1: Exited with exit code 2" in result.err


def test_a_stop_because_another_was_killed_is_not_queued_again(cluster):
    env = {"FAKE_EXIT_0": "137", "FAKE_NOTE_0": "Out Of Memory", "FAKE_EXIT_1": "3"}
    assert cluster.slurm("--x", **env).code == 137
    assert cluster.lines("scontrol") == []


def test_a_signal_to_the_job_reaches_the_processes_through_scancel(cluster):
    env = cluster.job() | {"FAKE_TASKS": "1", "FAKE_WAIT": "1"}
    process = cluster.start("slurm.sbatch", "--x", **env)
    cluster.await_run(0)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert cluster.lines("scancel") == ["--ctld --signal=TERM 77"]
    assert cluster.lines("scontrol") == ["requeue Incomplete 77"]


def array(index: int, **env: str) -> dict[str, str]:
    return {"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": str(index), **env}


def row_flags(cluster: Cluster, row: str, workdir: str) -> list[str]:
    config = f"--config={cluster.root}/configs/ablation.py:{row}"
    return [config, f"--workdir={workdir}"]


def test_an_array_index_picks_the_row_its_workdir_and_its_logs(cluster):
    env = array(1, ROWS="baseline cosine,seed=1 mixup", RUNS="my runs")
    assert cluster.slurm("--config.train.epochs=3", **env).code == 0
    expected = row_flags(cluster, "cosine,seed=1", "my runs/cosine-seed-1")
    assert cluster.args() == [*expected, "--config.train.epochs=3"]
    assert (cluster.root / "logs/70_1/0.log").exists()


@pytest.mark.parametrize(("index", "row"), [(0, "baseline"), (1, "mixup,seed=2")])
def test_rows_come_from_a_file(cluster, index, row):
    (cluster.root / "rows.txt").write_text("# rows\nbaseline  # first\n\nmixup,seed=2")
    assert cluster.slurm(**array(index, ROWS_FILE="rows.txt")).code == 0
    assert cluster.args()[0].endswith(f":{row}")


def test_a_line_of_flags_is_taken_as_it_is(cluster):
    flags = [
        "--config=configs/ablation.py:cosine,seed=1",
        "--workdir=runs/cosine-seed1",
    ]
    (cluster.root / "rows.txt").write_text(f"baseline\n{' '.join(flags)}\n")
    assert cluster.slurm(**array(1, ROWS_FILE="rows.txt")).code == 0
    assert cluster.args() == flags


def test_one_row_needs_no_array(cluster):
    assert cluster.slurm(ROWS="cosine").code == 0
    assert cluster.args() == row_flags(cluster, "cosine", "runs/cosine")


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (array(3, ROWS="a b c"), "array index 3 has no row; allowed: 0 to 2"),
        (array(0), "there are no rows"),
        ({"ROWS": "a b"}, "there are 2 rows: submit with --array=0-1"),
        ({"ROWS": "a", "ROWS_FILE": "b"}, "set ROWS or ROWS_FILE, not both"),
        ({"ROWS_FILE": "none"}, "ROWS_FILE=none cannot be read"),
        ({"TASKS": "core"}, "TASKS=core is not allowed; allowed: gpu | node"),
        ({"SLURM_SUBMIT_DIR": "/"}, "/ is not the repository; set RTJ_ROOT to it"),
    ],
)
def test_a_bad_job_is_refused_with_a_message_before_srun(cluster, env, message):
    result = cluster.slurm("--x", **env)
    assert result.code == 2
    assert message in result.err
    assert cluster.lines("srun") == cluster.lines("scontrol") == []
