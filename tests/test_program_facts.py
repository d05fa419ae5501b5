"""What a kept program is looked up by: nothing that makes it may be missing."""

import json

import jax
import pytest

from rtj.config import set_field
from rtj.experiment import build
from rtj.program_facts import environment_facts, program_facts


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tricks.base_lr", 0.3),
        ("tricks.precision", "bf16"),
        ("model.width", 8),
        ("mesh.shard_optimizer", True),
        ("data.train_split", "train[:100]"),
    ],
)
def test_every_part_of_a_config_is_among_the_facts(tiny_config, field, value):
    config = tiny_config()
    before = program_facts(build(config))
    assert program_facts(build(tiny_config())) == before
    set_field(config, field, value)
    assert program_facts(build(config)) != before


@pytest.mark.parametrize("name", ["XLA_FLAGS", "LIBTPU_INIT_ARGS"])
def test_compiler_flags_are_among_the_environment(monkeypatch, name):
    before = environment_facts(jax.devices())
    assert environment_facts(jax.devices()) == before
    monkeypatch.setenv(name, "--other=1")
    assert environment_facts(jax.devices()) != before


def test_devices_and_options_of_jax_are_among_the_environment():
    before = json.dumps(environment_facts(jax.devices()), default=str)
    assert environment_facts(jax.devices()[:1]) != environment_facts(jax.devices())
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        changed = json.dumps(environment_facts(jax.devices()), default=str)
    finally:
        jax.config.update("jax_default_matmul_precision", None)
    assert changed != before
