"""Fakes of gcloud, Slurm and Python, for the launchers of clusters.

They say what the real ones say, as read in Google Cloud SDK 578.0.0
(lib/googlecloudsdk/command_lib/compute/tpus/tpu_vm/ssh.py: `--worker=all` exits with
the status of the lowest-numbered worker that failed) and Slurm 26.11
(src/srun/launch.c: the messages of `srun`; doc/man/man1/srun.1: its exit code).
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# The options of tpu_pod.sh in all tests.
POD = ("--name=pod", "--zone=z1", "--type=v5litepod-16")

FAKE_PYTHON = """#!/usr/bin/env bash
case "$1 $2" in
  "-c import sys"*) echo 3.12 ;;
  "-m venv") mkdir -p "${@: -1}/bin"; cp "$0" "${@: -1}/bin/python" ;;
  "-m pip") echo "${@: -1}" >>"$FAKES/pip"; exit "${FAKE_PIP:-0}" ;;
  "-P -m")
    task=${SLURM_PROCID:-${HOME##*/}}
    printf '%s\\0' "$@" >"$FAKES/args.$task"
    echo "log of $task"
    wait=FAKE_WAIT_$task
    if [[ -n ${FAKE_WAIT:-}${!wait:-} ]]; then
      trap 'echo "saved on $task"; exit 3' TERM
      echo $$ >"$FAKES/runs.$task"
      for ((i = 0; i < 300; i++)); do sleep 0.1; done
    fi
    code=FAKE_EXIT_$task
    exit "${!code:-${FAKE_EXIT:-0}}"
    ;;
esac
"""

# FAKE_FAIL: a regular expression of the calls that fail, FAKE_TIMES of them.
# WORKERS: their numbers. It waits before `follow`, or `tail --pid` would see the run's
# process for the 2 s that a container's init may take to reap it.
FAKE_GCLOUD = """#!/usr/bin/env bash
printf '%q ' gcloud "$@" >>"$FAKES/calls"; echo >>"$FAKES/calls"
if [[ -n ${FAKE_FAIL:-} && "$*" =~ $FAKE_FAIL ]]; then
  echo x >>"$FAKES/failed"
  if (($(wc -l <"$FAKES/failed") <= ${FAKE_TIMES:-99})); then
    [[ -z ${FAKE_STATE:-} ]] || echo "$FAKE_STATE" >"$FAKES/state"
    echo "fake failure" >&2
    exit 255
  fi
fi
for argument; do
  case $argument in
    --worker=all) workers=${WORKERS:-0} ;;
    --worker=*) workers=${argument#*=} ;;
    --command=*) command=${argument#*=} ;;
  esac
done
case "$*" in
  *" describe "*)
    [[ -e $FAKES/state ]] || { echo "ERROR: NOT_FOUND: no such node" >&2; exit 1; }
    cat "$FAKES/state"
    ;;
  *" tpu-vm create "*) echo READY >"$FAKES/state" ;;
  *" queued-resources create "*) echo ACTIVE >"$FAKES/state" ;;
  *" delete "*) rm -f "$FAKES/state" ;;
  *" scp "*) for w in $workers; do cp "$5" "$FAKES/$w/${6#*:}"; done ;;
  *" ssh "*)
    if [[ $* == *follow* && -z ${FAKE_WAIT:-} ]]; then
      until [[ -e $FAKES/0/.rtj-run/code ]]; do sleep 0.02; done
    fi
    status=0
    for w in $workers; do
      code=0
      (cd "$FAKES/$w" && HOME=$PWD exec bash -c "$command") || code=$?
      ((status)) || status=$code
    done
    exit "$status"
    ;;
esac
"""

# Runs the tasks one after another; FAKE_NOTE_i is what it says of task i instead.
FAKE_SRUN = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$FAKES/srun"
while [[ $1 == --* ]]; do
  [[ $1 != --output=* ]] || output=${1#*=}
  shift
done
status=0
trap : TERM
for ((i = 0; i < ${FAKE_TASKS:-2}; i++)); do
  code=0
  SLURM_PROCID=$i "$@" >>"${output//%t/$i}" 2>&1 &
  echo $! >"$FAKES/step"
  wait $! || code=$?
  note=FAKE_NOTE_$i
  if ((code)); then
    echo "srun: error: node1: task $i: ${!note:-Exited with exit code $code}" >&2
  fi
  ((code <= status)) || status=$code
done
exit "$status"
"""
FAKE_SCANCEL = 'echo "$*" >>"$FAKES/scancel"; kill -TERM "$(cat "$FAKES/step")"\n'
FAKE_SCONTROL = 'echo "$*" >>"$FAKES/scontrol"; exit "${FAKE_REQUEUE:-0}"\n'
FAKE_SUDO = 'echo "$*" >>"$FAKES/sudo"; [[ $* != *install* ]] || ADD_PYTHON\n'
FAKE_GCSFUSE = 'printf "%s\\n" "$@" >"$FAKES/gcsfuse.${HOME##*/}"\n'


class Cluster:
    """A copy of launch/, two workers' homes and the fakes."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "the repo"
        self.fakes = folder / "fakes"
        self.bin = folder / "bin"
        for directory in (self.bin, self.fakes / "0", self.fakes / "1"):
            directory.mkdir(parents=True)
        shutil.copytree(ROOT / "launch", self.root / "launch")
        shutil.copy(ROOT / "pyproject.toml", self.root)
        for name, text in {
            "python3.13": FAKE_PYTHON,
            "gcloud": FAKE_GCLOUD,
            "srun": FAKE_SRUN,
            "scancel": FAKE_SCANCEL,
            "scontrol": FAKE_SCONTROL,
            "gcsfuse": FAKE_GCSFUSE,
            "mountpoint": "exit 1\n",
        }.items():
            self.add(name, text)

    def add(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text if text[0] == "#" else f"#!/usr/bin/env bash\n{text}")
        path.chmod(0o755)

    def start(self, script: str, *args: str, **env: str) -> subprocess.Popen[str]:
        path = f"{self.bin}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", str(self.root / "launch" / script), *args],
            cwd=self.root,
            env={"PATH": path, "FAKES": str(self.fakes), "HOME": str(self.root)}
            | {"TMPDIR": str(self.fakes), "RTJ_POLL_S": "0"}
            | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, script: str, *args: str, **env: str) -> "Result":
        process = self.start(script, *args, **env)
        out, err = process.communicate(timeout=60)
        return Result(process.returncode, out, err)

    def pod(self, *args: str, flags: tuple[str, ...] = ("--x",), **env: str):
        return self.call("tpu_pod.sh", *POD, *args, "--", *flags, **env)

    def slurm(self, *args: str, **env: str) -> "Result":
        return self.call("slurm.sbatch", *args, **(self.job() | env))

    def job(self) -> dict[str, str]:
        return {
            "SLURM_JOB_ID": "77",
            "SLURM_SUBMIT_DIR": str(self.root),
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_NTASKS_PER_NODE": "8",
            "SLURM_CPUS_PER_TASK": "6",
        }

    def lines(self, name: str) -> list[str]:
        path = self.fakes / name
        return path.read_text().splitlines() if path.exists() else []

    def args(self, task: int = 0) -> list[str]:
        """What rtj.main was called with in process `task`."""
        found = (self.fakes / f"args.{task}").read_text().split("\0")[:-1]
        assert found[:3] == ["-P", "-m", "rtj.main"]
        return found[3:]

    def await_run(self, task: int) -> None:
        path = self.fakes / f"runs.{task}"
        for _ in range(200):
            if path.exists():
                return
            time.sleep(0.05)
        raise AssertionError(f"{path} did not appear")


class Result:
    """How a script ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
