"""--profile and the compile cache, through the command line."""

import os
import subprocess
import sys

import pytest

import rtj
from rtj.errors import ConfigError
from rtj.profile import ProfileSteps, parse_profile


def traces(workdir):
    return list((workdir / "profile").rglob("*.xplane.pb"))


@pytest.mark.slow
def test_the_profiled_steps_leave_a_trace(tiny_config, tmp_path):
    config = tiny_config(**{"train.steps": 4})
    rtj.train(config, tmp_path, profile=ProfileSteps(2, 4))
    (trace,) = traces(tmp_path)
    assert trace.stat().st_size > 0


def test_a_trace_up_to_the_last_step_is_finished(tiny_config, tmp_path):
    config = tiny_config(**{"train.steps": 2})
    rtj.train(config, tmp_path, profile=ProfileSteps(2, 3))
    assert len(traces(tmp_path)) == 1


def test_steps_beyond_the_run_are_refused_before_anything_is_written(
    tiny_config, tmp_path
):
    with pytest.raises(ConfigError, match=r"--profile=2:4, .* 2 steps; .* up to 3"):
        rtj.train(
            tiny_config(**{"train.steps": 2}),
            tmp_path / "run",
            profile=ProfileSteps(2, 4),
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["3", "3:3", "0:2", "a:b", "1:2:3", "-1:2", ":"])
def test_a_profile_that_is_no_range_of_steps_is_refused(text):
    with pytest.raises(ConfigError, match="allowed: START:STOP"):
        parse_profile(text)


def test_a_range_of_steps_is_read():
    assert parse_profile("10:13") == ProfileSteps(10, 13)
    assert parse_profile("") is None


@pytest.mark.parametrize("flag", ["auto", "off"])
def test_compiled_programs_are_kept_beside_the_workdir_unless_off(
    repo_root, tmp_path, flag
):
    program = (
        "import sys, jax\n"
        "import rtj.loop\n"
        "from rtj import main\n"
        "rtj.loop.train = lambda *args, **kwargs: str(\n"
        "    jax.config.jax_compilation_cache_dir)\n"
        "sys.exit(main.run(sys.argv))\n"
    )
    environment = dict(os.environ)
    del environment["JAX_COMPILATION_CACHE_DIR"]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            program,
            "--config=configs/ablation.py:zero_gamma,data=digits",
            f"--workdir={tmp_path / 'runs/one'}",
            f"--compile_cache={flag}",
        ],
        cwd=repo_root,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = str(tmp_path / "runs/.jax-cache") if flag == "auto" else "None"
    assert done.stdout.strip() == f'"{wanted}"'
