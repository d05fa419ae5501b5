"""Programs of an earlier start: found by what they are made from, never wrong."""

import hashlib
import os
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import NamedSharding, PartitionSpec

import rtj
from rtj import kept_programs, program_files
from rtj.errors import StaleProgram
from rtj.experiment import build
from rtj.kept_programs import KeptPrograms, open_programs
from rtj.metrics import read_metrics
from rtj.sharding import make_mesh
from tests.test_loop import assert_same_state, evaluate_nothing, final_state


@pytest.fixture(autouse=True)
def jax_cache(monkeypatch):
    """Sets the folder of JAX's own cache; in these tests there is none at first."""
    fields = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = {field: getattr(jax.config, field) for field in fields}

    def use(folder):
        for field, value in zip(fields, (folder and str(folder), 0.0), strict=True):
            jax.config.update(field, value)
        compilation_cache.reset_cache()

    use(None)
    yield use
    for field, value in before.items():
        jax.config.update(field, value)
    compilation_cache.reset_cache()


@pytest.fixture
def traced():
    """The shape of each argument that `start` traces its function with."""
    return []


@pytest.fixture
def start(tmp_path, traced):
    """One start of a process: programs in one folder, and x + `add` through them."""

    def begin(
        add=1.0,
        facts=None,
        environment=None,
        folder=tmp_path / "programs",
        devices=1,
    ):
        jax.clear_caches()
        mesh = make_mesh(devices)
        devices = list(mesh.devices.flat)
        programs = KeptPrograms(folder, facts or {}, environment or {}, devices)

        def plus(x):
            traced.append(x.shape)
            return {"sum": x + add}

        rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
        whole = NamedSharding(mesh, PartitionSpec())
        jitted = jax.jit(plus, in_shardings=rows, out_shardings=whole, donate_argnums=0)
        call = programs.kept("plus", jitted)

        def run(rows_count=8):
            x = jax.device_put(jnp.zeros(rows_count), rows)
            return np.asarray(call(x)["sum"]).tolist()

        return programs, run

    return begin


def programs_in(folder):
    """Not the notes."""
    return sorted(path for path in folder.glob("*") if "-of-" not in path.name)


@pytest.mark.parametrize("devices", [1, 8])
def test_a_second_start_runs_the_program_before_it_traces_it(start, traced, devices):
    _, run = start(devices=devices)
    assert run() == [1.0] * 8
    assert len(traced) == 1
    programs, run = start(devices=devices)
    assert run() == run() == [1.0] * 8
    assert len(traced) == 1
    programs.confirm()
    assert len(traced) == 2


def test_comparing_begins_after_the_second_step_and_once(start, traced):
    start()[1]()
    traced.clear()
    programs, run = start()
    run()
    programs.check()
    programs.close()  # waits for what has begun: nothing
    assert traced == []
    programs, run = start()
    run()
    programs.check()
    programs.check()
    programs.close()
    assert traced == [(8,)]
    programs.check()
    programs.confirm()
    assert traced == [(8,)]


def ask_once(programs):
    programs.confirm()


def ask_after_each_step(programs):
    programs.check()
    programs.check()
    programs.close()
    programs.check()


@pytest.mark.parametrize("ask", [ask_once, ask_after_each_step])
def test_a_program_that_is_not_the_codes_is_an_error_once(start, traced, ask):
    start(add=1.0)[1]()
    programs, run = start(add=2.0)
    assert run() == [1.0] * 8  # that is why it is compared
    with pytest.raises(StaleProgram, match=r"the plus kept as .*plus-of-.* says is"):
        ask(programs)
    for _ in range(2):  # what differs once may do so each time
        traced.clear()
        programs, run = start(add=2.0)
        assert run() == [2.0] * 8
        assert len(traced) == 1
        programs.confirm()


def test_other_facts_and_shapes_are_told_apart(start, tmp_path):
    start(add=1.0)[1]()
    programs, run = start(add=2.0, facts={"rate": 0.2})
    assert run() == [2.0] * 8
    assert run(16) == [2.0] * 16
    assert run() == [2.0] * 8
    programs.confirm()
    assert len(programs_in(tmp_path / "programs")) == 3


def test_another_environment_has_a_program_of_its_own(start, tmp_path):
    start(environment={"flags": ""})[1]()
    assert start(environment={"flags": "--fast"})[1]() == [1.0] * 8
    assert len(programs_in(tmp_path / "programs")) == 2


def test_facts_that_change_no_program_share_it(start, traced, tmp_path):
    """As an edit of a comment, or of how often something is logged."""
    for comment in "ab":
        start(facts={"code": comment})[1]()
    assert len(programs_in(tmp_path / "programs")) == 1
    traced.clear()
    for comment in "ab":
        assert start(facts={"code": comment})[1]() == [1.0] * 8
    assert traced == []


def damaged(content, how):
    if how == "half":
        return content[: len(content) // 2]
    if how == "no sum":
        return content[:10]
    if how == "another's":
        whole = b"whole, but no pickle"
        return hashlib.sha256(whole).digest() + whole
    position = int(how * (len(content) - 1))
    flipped = bytes([content[position] ^ 1])
    return content[:position] + flipped + content[position + 1 :]


@pytest.mark.parametrize("how", [0.0, 0.001, 0.5, 1.0, "half", "no sum", "another's"])
def test_a_damaged_file_is_told_and_replaced(start, tmp_path, caplog, how):
    start()[1]()
    (path,) = programs_in(tmp_path / "programs")
    path.write_bytes(damaged(path.read_bytes(), how))
    programs, run = start()
    assert run() == [1.0] * 8
    programs.confirm()
    why = "UnpicklingError" if how == "another's" else "it is damaged"
    assert f"{path} cannot be used: {why}" in caplog.text
    caplog.clear()
    assert start()[1]() == [1.0] * 8
    assert caplog.text == ""


def test_a_folder_that_cannot_be_written_costs_a_warning_only(start, tmp_path, caplog):
    (tmp_path / "taken").write_text("a file")
    _, run = start(folder=tmp_path / "taken")
    assert run() == [1.0] * 8
    assert "cannot be kept" in caplog.text


def test_what_jax_read_from_its_own_cache_is_not_written(start, tmp_path, jax_cache):
    """XLA's CPU programs would lack their functions, and fail when they are called."""
    jax_cache(tmp_path / "jax")
    start()[1]()
    for _ in range(2):
        programs, run = start(folder=tmp_path / "other")
        assert run() == [1.0] * 8
        programs.confirm()
    assert programs_in(tmp_path / "other") == []


def test_without_a_folder_nothing_is_kept(start, traced):
    for _ in range(2):
        programs, run = start(folder=None)
        assert run() == [1.0] * 8
        programs.check()
        programs.confirm()
    assert len(traced) == 2


def test_of_too_many_bytes_those_used_last_stay(start, tmp_path, monkeypatch):
    folder, made = tmp_path / "programs", []
    for number in range(3):
        start(environment={"number": number})[1]()
        made += [path for path in programs_in(folder) if path not in made]
        os.utime(made[number], (1000 + number, 1000 + number))
    start(environment={"number": 0})[1]()  # reads the oldest, which is the newest then
    limit = int(3.5 * made[0].stat().st_size)
    monkeypatch.setattr(program_files, "LIMIT_BYTES", limit)
    start(environment={"number": 3})[1]()
    left = programs_in(folder)
    assert len(left) == 3
    assert made[1] not in left


def test_runs_of_several_processes_keep_none(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    jitted = jax.jit(lambda x: x)
    with closing(open_programs(tmp_path, build(tiny_config()))) as programs:
        assert programs.kept("step", jitted) is jitted


@pytest.mark.slow
def test_a_run_with_kept_programs_is_bit_equal_to_one_without(
    tiny_config, tmp_path, monkeypatch, jax_cache
):
    jax_cache(tmp_path / "jax")
    monkeypatch.setattr("rtj.loop.run_evaluation", evaluate_nothing)
    config = tiny_config(**{"train.steps": 6, "train.save_every": 0.1})
    programs = tmp_path / "programs"
    rtj.train(config, tmp_path / "first", programs=programs)
    assert [path.name.rsplit("-", 1)[0] for path in programs_in(programs)] == [
        "first-state",
        "train-step",
    ]
    jax.clear_caches()
    compared = []
    real = kept_programs._compare

    def compare(claim):
        compared.append(claim.name)
        real(claim)

    monkeypatch.setattr(kept_programs, "_compare", compare)
    rtj.train(config, tmp_path / "second", programs=programs)
    assert compared == ["first-state", "train-step"]
    rtj.train(config, tmp_path / "plain")
    plain = final_state(config, tmp_path / "plain")
    for name in ("first", "second"):
        assert_same_state(final_state(config, tmp_path / name), plain)


@pytest.mark.slow
def test_a_stale_step_ends_the_run_before_anything_is_saved(
    tiny_config, tmp_path, monkeypatch, jax_cache
):
    """And the same command begins anew, as if there had been no such start."""
    jax_cache(tmp_path / "jax")
    monkeypatch.setattr("rtj.loop.run_evaluation", evaluate_nothing)
    monkeypatch.setattr(kept_programs, "program_facts", lambda experiment: {})
    steps, programs = {"train.steps": 4, "train.save_every": 0.1}, tmp_path / "programs"
    other, config = (tiny_config(**steps, **{"tricks.base_lr": r}) for r in (0.1, 0.2))
    rtj.train(other, tmp_path / "other", programs=programs)
    workdir, plain = tmp_path / "run", tmp_path / "plain"
    with pytest.raises(StaleProgram, match="the train-step kept as"):
        rtj.train(config, workdir, programs=programs)
    assert not list((workdir / "checkpoints").glob("[0-9]*"))
    rtj.train(config, workdir, programs=programs)
    rtj.train(config, plain)
    assert_same_state(final_state(config, workdir), final_state(config, plain))
    lines = [read_metrics(folder, ["train"]) for folder in (workdir, plain)]
    assert lines[0] == lines[1]
