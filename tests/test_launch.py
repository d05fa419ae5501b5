"""launch/ with a fake Python, which records what it is asked and installs nothing."""

import os
import re
import shutil
import signal
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [ROOT / ".ci/run", *sorted((ROOT / "launch").glob("*.sh"))]
TOOLS = (
    "bash cksum cp dirname find flock grep ls mkdir mkfifo mktemp mv rm sed sleep sort "
    "touch"
)

# FAKE_VENV and FAKE_PIP choose how the fake misbehaves: kill, fail, slow. FAKE_PROGRAM
# is what it runs as `rtj.main`.
FAKE_PYTHON = """#!BASH
set -eu
version=VERSION
case " $* " in
  " -c import sys"*) echo "$version"; exit ;;
esac
printf '%s\\n' "$*" >>"$FAKE_LOG"
misbehave() {
  case $1 in
    kill) kill -9 0 ;;
    fail) echo "fake failure" >&2; exit 1 ;;
    slow) sleep 0.5 ;;
  esac
}
case "$1 $2" in
  "-m venv")
    for directory; do :; done
    mkdir -p "$directory/bin"
    touch "$directory/pyvenv.cfg"
    cp "$0" "$directory/bin/python"
    [[ $3 == --without-pip ]] || misbehave "${FAKE_VENV:-}"
    ;;
  "-m pip") misbehave "${FAKE_PIP:-}" ;;
  "-P -m")
    [[ -z ${FAKE_PROGRAM:-} ]] || eval "$FAKE_PROGRAM"
    printf '%s\\0' "$$" "$PWD" "$@"
    exit "${FAKE_EXIT:-0}"
    ;;
  *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""


class Launcher:
    """A copy of the scripts, a PATH without Python, and a record of the calls."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "the repo"
        self.bin = folder / "bin"
        self.elsewhere = folder / "else where"
        self.log = folder / "log"
        self.venv = self.root / ".venv"
        for directory in (self.root, self.bin, self.elsewhere):
            directory.mkdir()
        self.log.touch()
        for name in ("launch", ".ci"):
            shutil.copytree(ROOT / name, self.root / name)
        shutil.copy(ROOT / "pyproject.toml", self.root)
        for tool in TOOLS.split():
            if path := shutil.which(tool):
                (self.bin / tool).symlink_to(path)

    def add_python(self, name: str, version: str = "3.11") -> Path:
        path = self.bin / name
        bash = str(self.bin / "bash")
        path.write_text(FAKE_PYTHON.replace("BASH", bash).replace("VERSION", version))
        path.chmod(0o755)
        return path

    def start(self, script: str, *args: str, **env: str) -> subprocess.Popen[str]:
        # A test worker ignores SIGINT, and so would whatever it starts: bash cannot
        # trap a signal that was ignored when it began.
        taken = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return self._popen(script, *args, **env)
        finally:
            signal.signal(signal.SIGINT, taken)

    def _popen(self, script: str, *args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.bin / "bash", self.root / script, *args],
            cwd=self.elsewhere,
            env={"PATH": str(self.bin), "FAKE_LOG": str(self.log), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def call(self, script: str, *args: str, **env: str) -> "Result":
        process = self.start(script, *args, **env)
        out, err = process.communicate(timeout=60)
        return Result(process.pid, process.returncode, out, err)

    def local(self, *args: str, **env: str) -> "Result":
        return self.call("launch/local.sh", *args, **env)

    def installs(self) -> list[str]:
        """The extras of each pip install so far."""
        return re.findall(r"^-m pip install .*--editable \.\[(.*)\]$", self.text, re.M)

    def venvs(self) -> int:
        """How many times an environment has been made."""
        return self.text.count("-m venv")

    @property
    def text(self) -> str:
        return self.log.read_text()


class Result:
    """What the launched program saw: its process id, directory and arguments."""

    def __init__(self, launched: int, code: int, out: str, err: str) -> None:
        self.launched, self.code, self.err = launched, code, err
        pid, cwd, *args = out.split("\0")[:-1] or ["", ""]
        self.pid, self.cwd, self.args = pid, cwd, args


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    launcher = Launcher(tmp_path)
    launcher.add_python("python3")
    return launcher


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_script_is_valid_bash(script):
    subprocess.run(["bash", "-n", script], check=True)


def test_ci_runs_the_tests_script_and_passes_its_exit_code(launcher):
    result = launcher.call(".ci/run", FAKE_EXIT="5")
    assert result.code == 5
    assert result.args[1:3] == ["-m", "pytest"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_local_without_flags_trains_zero_gamma(launcher):
    result = launcher.local()
    config = f"--config={launcher.root}/configs/ablation.py:zero_gamma"
    assert result.args == ["-P", "-m", "rtj.main", config]
    assert (launcher.venvs(), launcher.installs()) == (1, ["digits"])


def test_flags_arrive_as_given_in_the_callers_directory(launcher):
    flags = ["--workdir=a b", "", "*", "--x='$HOME'", 'quo"te', "new\nline"]
    result = launcher.local(*flags)
    assert result.args == ["-P", "-m", "rtj.main", *flags]
    assert result.cwd == str(launcher.elsewhere)


@pytest.mark.parametrize("code", [0, 2, 3, 7])
def test_exit_code_passes_through(launcher, code):
    assert launcher.local(FAKE_EXIT=str(code)).code == code


def test_signals_reach_the_program_because_it_replaces_the_script(launcher):
    result = launcher.local()
    assert result.pid == str(result.launched)


def test_second_call_installs_nothing_and_needs_no_network(launcher):
    launcher.local()
    second = launcher.local("--flag", FAKE_PIP="fail", FAKE_VENV="fail")
    assert second.code == 0
    assert second.args[-1] == "--flag"
    assert second.err == ""
    assert (launcher.venvs(), len(launcher.installs())) == (1, 1)


def test_a_changed_pyproject_installs_again_in_the_same_environment(launcher):
    launcher.local()
    with (launcher.root / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert launcher.local().code == 0
    assert (launcher.venvs(), len(launcher.installs())) == (1, 2)


@pytest.mark.parametrize("stage", ["FAKE_VENV", "FAKE_PIP"])
def test_an_environment_killed_while_being_made_is_made_again(launcher, stage):
    assert launcher.local(**{stage: "kill"}).code == -9
    (launcher.venv / "half-made").touch()
    assert launcher.local().code == 0
    assert not (launcher.venv / "half-made").exists()
    assert launcher.venvs() == 2


def test_an_update_killed_half_way_is_made_again(launcher):
    launcher.local()
    assert launcher.local(RTJ_EXTRAS="tpu", FAKE_PIP="kill").code == -9
    assert launcher.local().code == 0
    assert launcher.venvs() == 2


def test_a_failed_install_is_reported_and_nothing_runs(launcher):
    result = launcher.local(FAKE_PIP="fail")
    assert result.code == 2
    assert "fake failure" in result.err
    assert "pip could not install rtj" in result.err
    assert result.args == []
    assert launcher.local().code == 0


def test_an_update_that_fails_keeps_the_environment(launcher):
    launcher.local()
    assert launcher.local(RTJ_EXTRAS="tpu", FAKE_PIP="fail").code == 2
    assert launcher.local(FAKE_PIP="fail").code == 0
    assert launcher.venvs() == 1


def test_an_environment_whose_python_is_gone_is_made_again(launcher):
    launcher.local()
    (launcher.venv / "bin/python").unlink()
    assert launcher.local().code == 0
    assert launcher.venvs() == 2


def test_a_moved_repository_gets_a_new_environment(launcher):
    launcher.local()
    launcher.root = launcher.root.rename(launcher.root.with_name("moved repo"))
    assert launcher.local().code == 0
    assert launcher.venvs() == 2


def test_without_ensurepip_the_pip_of_the_found_python_is_used(launcher):
    assert launcher.local(FAKE_VENV="fail").code == 0
    python = launcher.venv / "bin/python"
    assert f"-m pip --python {python} install --quiet pip" in launcher.text


def test_python_set_to_another_version_makes_the_environment_again(launcher):
    launcher.local()
    newer = launcher.add_python("newer", "3.12")
    for _ in range(2):
        assert launcher.local(PYTHON=str(newer)).code == 0
    assert launcher.venvs() == 2


def test_the_newest_suitable_python_is_taken(launcher):
    launcher.add_python("python3.11", "3.11")
    launcher.add_python("python3.12", "3.12")
    launcher.add_python("python3.13", "3.9")  # a name that lies
    assert "python3.12 (Python 3.12)" in launcher.local().err


@pytest.mark.parametrize("version", ["2.7", "3.10", "3.9"])
def test_only_an_old_python_is_a_clear_error(launcher, version):
    launcher.add_python("python3", version)
    result = launcher.local()
    assert result.code == 2
    assert "no Python 3.11 or newer" in result.err
    named = launcher.local(PYTHON="python3")
    assert named.code == 2
    assert f"PYTHON=python3 is Python {version}" in named.err


def test_a_missing_python_is_a_clear_error(launcher):
    result = launcher.local(PYTHON="/no/such")
    assert result.code == 2
    assert "PYTHON=/no/such does not run" in result.err
    (launcher.bin / "python3").unlink()
    assert "no Python 3.11 or newer" in launcher.local().err


def test_rtj_venv_is_relative_to_the_caller(launcher):
    assert launcher.local(RTJ_VENV="my env").code == 0
    assert (launcher.elsewhere / "my env/bin/python").exists()
    assert not launcher.venv.exists()


def test_a_folder_that_is_no_environment_is_refused_and_left_alone(launcher):
    precious = launcher.elsewhere / "home/precious"
    precious.parent.mkdir()
    precious.write_text("kept")
    result = launcher.local(RTJ_VENV="home")
    assert result.code == 2
    assert "remove it or set RTJ_VENV" in result.err
    assert precious.read_text() == "kept"
    assert os.listdir(precious.parent) == ["precious"]


def test_an_environment_of_the_users_own_is_installed_into(launcher):
    own = launcher.elsewhere / "own"
    (own / "bin").mkdir(parents=True)
    for name in ("pyvenv.cfg", "precious"):
        (own / name).touch()
    shutil.copy(launcher.bin / "python3", own / "bin/python")
    other = str(launcher.add_python("other", "3.12"))
    for _ in range(2):
        assert launcher.local(RTJ_VENV=str(own), PYTHON=other).code == 0
    assert (own / "precious").exists()
    assert (launcher.venvs(), launcher.installs()) == (0, ["digits"])


def test_extras_add_up_and_are_installed_once(launcher):
    launcher.local(RTJ_EXTRAS="tpu,weights")
    launcher.local()
    launcher.local(RTJ_EXTRAS="weights")
    launcher.call("launch/test.sh")
    launcher.local()
    assert launcher.installs() == ["digits,tpu,weights", "digits,test,tpu,weights"]


def test_an_unknown_extra_is_refused_with_the_known_ones(launcher):
    result = launcher.local(RTJ_EXTRAS="gpu")
    assert result.code == 2
    known = re.findall(r"the extras are: (.*)", result.err)[0].split()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert sorted(known) == sorted(project["optional-dependencies"])
    assert not launcher.venv.exists()


@pytest.mark.skipif(not shutil.which("flock"), reason="the lock is flock's")
def test_two_calls_at_once_install_once(launcher):
    processes = [launcher.start("launch/local.sh", FAKE_PIP="slow") for _ in range(2)]
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert (launcher.venvs(), launcher.installs()) == (1, ["digits"])


def test_the_tests_script_runs_all_tests_from_anywhere(launcher):
    result = launcher.call("launch/test.sh", "-k", "some thing")
    config = str(launcher.root / "pyproject.toml")
    assert result.args[:5] == ["-P", "-m", "pytest", "-c", config]
    assert result.args[5:] == ["-k", "some thing", str(launcher.root / "tests")]
    assert launcher.installs() == ["digits,test"]


@pytest.mark.parametrize("suffix", ["", "::test_name"])
def test_the_tests_script_takes_paths_of_the_callers_directory(launcher, suffix):
    (launcher.elsewhere / "test_mine.py").touch()
    result = launcher.call("launch/test.sh", "test_mine.py" + suffix, "-q")
    assert result.args[5:] == ["test_mine.py" + suffix, "-q"]


# The fake rtj.main of launch/processes.sh: $process is its number.
AS_PROCESS = """
process=; for argument; do
  case $argument in --process=*) process=${argument#*=} ;; esac
done
"""


def test_processes_start_each_with_its_number_and_label_their_lines(launcher):
    program = AS_PROCESS + (
        'echo "$JAX_PLATFORMS $JAX_NUM_CPU_DEVICES ${*:4}"; printf "no end" >&2; exit 0'
    )
    process = launcher.start(
        "launch/processes.sh", "3", "--a=b c", FAKE_PROGRAM=program, DEVICES="2"
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = sorted(out.splitlines())
    ports = {re.findall(r"--coordinator=localhost:(\d+) ", line)[0] for line in lines}
    assert len(ports) == 1
    for index, line in enumerate(lines):
        assert line == (
            f"[{index}] cpu 2 --coordinator=localhost:{min(ports)} --processes=3 "
            f"--process={index} --a=b c"
        )
    assert {f"[{index}] no end" for index in range(3)} <= set(err.splitlines())


def test_processes_without_flags_train_zero_gamma(launcher):
    process = launcher.start(
        "launch/processes.sh", "1", FAKE_PROGRAM='echo "${*: -1}"; exit 0'
    )
    out, _ = process.communicate(timeout=60)
    assert out == f"[0] --config={launcher.root}/configs/ablation.py:zero_gamma\n"


@pytest.mark.parametrize("arguments", [[], ["0"], ["--config=x"]])
def test_processes_need_a_number(launcher, arguments):
    result = launcher.call("launch/processes.sh", *arguments)
    assert result.code == 2
    assert "usage: processes.sh N" in result.err


@pytest.mark.slow
def test_processes_end_together_with_the_first_code_that_is_not_0(launcher):
    program = AS_PROCESS + "[[ $process == 1 ]] && exit 5; exec sleep 60"
    process = launcher.start("launch/processes.sh", "3", FAKE_PROGRAM=program)
    process.communicate(timeout=45)
    assert process.returncode == 5


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_processes_get_each_signal_once_and_may_save(launcher, name):
    program = AS_PROCESS + (
        # The trap ends the sleep: the signal may come before bash waits for it.
        f"trap 'echo got {name}; kill $!' {name}; sleep 60 & echo ready; "
        "wait $! || true; sleep 0.5; echo saved; exit 3"
    )
    process = launcher.start("launch/processes.sh", "2", FAKE_PROGRAM=program)
    assert process.stdout is not None
    ready = [process.stdout.readline() for _ in range(2)]
    assert sorted(ready) == ["[0] ready\n", "[1] ready\n"]
    # To the group, as a terminal sends Ctrl-C.
    os.killpg(process.pid, getattr(signal, f"SIG{name}"))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    said = [f"[{i}] {word}" for i in (0, 1) for word in (f"got {name}", "saved")]
    assert sorted(out.splitlines()) == said
