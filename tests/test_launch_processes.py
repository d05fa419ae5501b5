"""launch/processes.sh with a fake Python."""

import os
import re
import signal

import pytest

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
