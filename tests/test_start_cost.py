"""What a start compiles, and what the loop's steps must not do."""

import gc
import os
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import rtj
from rtj.compile_cache import keep_compiled
from rtj.errors import Stopped
from rtj.garbage import collection_paused
from rtj.sharding import make_mesh
from rtj.state import random_stream, run_once_on_devices
from tests.test_loop import stop_at


@pytest.fixture
def compiled():
    """Names of the programs compiled, or read back, meanwhile; in order."""
    names = []

    def record(event, duration_secs, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(kwargs["fun_name"])

    jax.monitoring.register_event_duration_secs_listener(record)
    yield names
    jax.monitoring.unregister_event_duration_listener(record)


@pytest.mark.slow
def test_a_run_compiles_three_programs_once_and_a_resume_no_first_state(
    tiny_config, tmp_path, compiled
):
    config = tiny_config(**{"train.steps": 6})
    jax.clear_caches()
    with pytest.raises(Stopped):
        rtj.train(config, tmp_path, callbacks=[stop_at(3)])
    assert compiled == ["jit(from_seed)", "jit(train_step)"]
    compiled.clear()
    rtj.train(config, tmp_path)
    # JAX may still hold the step of the run before, in one process.
    assert compiled in (["jit(train_step)", "jit(eval_step)"], ["jit(eval_step)"])


def test_no_step_moves_anything_to_the_device_unasked(tiny_config, tmp_path):
    """From the second step on, with the last evaluation and save."""
    before = jax.config.jax_transfer_guard_host_to_device  # type: ignore[attr-defined]

    def guard(step, metrics):
        jax.config.update("jax_transfer_guard_host_to_device", "disallow")
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            jax.jit(lambda x: x)(np.int32(step))

    try:
        rtj.train(tiny_config(**{"train.steps": 5}), tmp_path, callbacks=[guard])
    finally:
        jax.config.update("jax_transfer_guard_host_to_device", before)


def test_programs_that_compile_at_once_are_kept_too(tmp_path, monkeypatch):
    for name in ("CACHE_DIR", "PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        variable = f"JAX_{name}" if "MIN" in name else f"JAX_COMPILATION_{name}"
        monkeypatch.delenv(variable, raising=False)
    fields = "jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs"
    before = {field: getattr(jax.config, field) for field in fields}
    try:
        keep_compiled(tmp_path)
        compilation_cache.reset_cache()
        jax.jit(lambda x: x + 1)(np.float32(1))
    finally:
        for field, value in before.items():
            jax.config.update(field, value)
        compilation_cache.reset_cache()
    assert os.listdir(tmp_path / ".jax-cache")


def test_collection_goes_on_as_it_was_after_a_pause():
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            with collection_paused():
                assert not gc.isenabled()
            assert gc.isenabled() == enabled
        finally:
            gc.enable()


@pytest.mark.parametrize("seed", [0, 2**31, 2**32 - 1])
def test_every_seed_has_the_key_that_python_gives_it(seed):
    """The program makes the key from an array, notebooks from an integer."""
    mesh = make_mesh(1)
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    init: Any = jax.random.key_data
    made = run_once_on_devices(init, seed, sharding)
    expected = jax.random.key_data(random_stream(seed, "init"))
    np.testing.assert_array_equal(made, expected)
