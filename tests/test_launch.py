"""launch/ with a fake Python, which records what it is asked and installs nothing."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = [ROOT / ".ci/run", *sorted((ROOT / "launch").glob("*.sh"))]


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
