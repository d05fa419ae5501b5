"""Mutated command lines, fields and config.json: a config, or one RtjError."""

import contextlib
import faulthandler
import json
import random

import pytest

from rtj.config import (
    check,
    config_hash,
    difference,
    flatten,
    set_field,
)
from rtj.config_args import get_config
from rtj.data.decode import make_decoding
from rtj.errors import CheckpointError, ConfigError, RtjError
from rtj.main import default_workdir, parse
from rtj.parts import (
    count_steps,
    make_mixing,
    make_model,
    make_optimizer,
    make_schedule,
    make_step_options,
)
from rtj.weights.run_folder import read_config
from tests.hostile_configs import (
    BASES,
    VALUES,
    mutated_command,
    mutated_json,
    near,
)


@contextlib.contextmanager
def no_hang(seconds=60):
    """Ends the process, with a traceback, if a case takes that long."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def use(config):
    """All that a run makes of a config before it opens data or compiles."""
    flat = flatten(config)
    assert difference(flat, flat) == []
    assert len(config_hash(config)) == 8
    str(default_workdir(config))
    json.loads(json.dumps(flat))
    make_decoding(config.data.decoder, config.data.interpolation, config.data.antialias)
    if config.task == "classification":
        make_model(config, config.model.num_classes or 10)
    total = count_steps(config, 125.0)
    schedule = make_schedule(config, 125.0, total)
    assert 0 <= float(schedule(total - 1)) < float("inf")
    make_optimizer(config, schedule)
    make_mixing(config, 125.0, total)
    make_step_options(config)


def outcome(run):
    """`used`, `refused` or what must not happen."""
    try:
        with no_hang():
            run()
    except RtjError as error:
        return "refused" if str(error) else "an error without a message"
    except Exception as error:
        return repr(error)
    return "used"


def counted(cases):
    """How many were used and refused; fails for any other end."""
    results = [(case, outcome(run)) for case, run in cases]
    wrong = [pair for pair in results if pair[1] not in ("used", "refused")]
    assert not wrong, f"{len(wrong)} of {len(results)}, such as {wrong[0]!r}"
    return [result for _, result in results].count("used"), len(results)


@pytest.fixture
def at_root(repo_root, monkeypatch):
    monkeypatch.chdir(repo_root)


@pytest.mark.usefixtures("at_root")
def test_every_mutated_command_is_a_config_or_one_error():
    def case(seed):
        command = mutated_command(random.Random(seed))
        return command, lambda: use(parse(command)[1])

    used, count = counted(case(seed) for seed in range(150))
    assert count == 150 and 20 < used < 120


def test_every_mutated_field_is_a_config_or_one_error():
    bases = [get_config(base.replace(".py", "")) for base in BASES]

    def case(seed):
        rng = random.Random(seed)
        config = rng.choice(bases).copy_and_resolve_references()
        fields = rng.sample(
            [f for f in sorted(flatten(config)) if "." in f], k=rng.choice((1, 1, 2))
        )
        flat = flatten(config)
        values = [rng.choice([*VALUES, *[near(flat[f], rng)] * 30]) for f in fields]

        def run():
            for field, value in zip(fields, values, strict=True):
                set_field(config, field, value)
            check(config)
            use(config)

        return (fields, values), run

    used, count = counted(case(seed) for seed in range(300))
    assert count == 300 and 20 < used < 200


def test_every_mutated_config_json_is_a_config_or_one_error(tmp_path):
    text = json.dumps(flatten(get_config("ablation:zero_gamma,data=digits")))
    file = tmp_path / "config.json"

    def case(seed):
        changed = mutated_json(text, random.Random(seed))

        def run():
            file.write_text(changed)
            use(read_config(tmp_path))

        return changed[:300], run

    used, count = counted(case(seed) for seed in range(60))
    assert count == 60 and used < 40


@pytest.mark.usefixtures("at_root")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=README.md"], "--config cannot be read: SyntaxError"),
        (["--config=configs"], "Is a directory"),
        ([f"--config=configs/{BASES[0]}", "--flagfile=/nothing"], "flagfile"),
    ],
)
def test_what_is_no_config_file_is_one_error(arguments, message):
    with pytest.raises(ConfigError, match=message):
        parse(["rtj.main", *arguments])


def test_a_config_file_that_fails_is_named_by_its_error(tmp_path):
    (tmp_path / "c.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match="ZeroDivisionError: division by zero"):
        parse(["rtj.main", f"--config={tmp_path / 'c.py'}"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train.steps", 2**31),
        ("tricks.base_lr", 1e39),
        ("tricks.temperature", 1e39),
        ("train.epochs", 1e7),
        ("data.crop_ratio", (1.0, float("inf"))),
        ("data.mean", (1.0, 2.0, float("inf"))),
        ("tricks.step_epochs", (1.0, float("inf"))),
    ],
)
def test_a_number_that_the_device_cannot_hold_is_refused(field, value):
    config = get_config("ablation:zero_gamma,data=digits")
    set_field(config, field, value)
    with pytest.raises(ConfigError, match=f"{field}=.* is not allowed"):
        check(config)


@pytest.mark.parametrize("value", [{}, b"x", "12", {1.0: 2}])
def test_epochs_are_a_row_of_numbers(value):
    config = get_config("ablation:zero_gamma,data=digits")
    set_field(config, "tricks.step_epochs", value)
    with pytest.raises(ConfigError, match=r"(?s)step_epochs=.* rising positive"):
        check(config)


def test_an_integer_beyond_every_float_is_refused_when_it_is_set():
    config = get_config("ablation:zero_gamma,data=digits")
    with pytest.raises(ConfigError, match=r"tricks.base_lr: int too large"):
        set_field(config, "tricks.base_lr", 10**400)
    set_field(config, "train.steps", 10**400)
    with pytest.raises(ConfigError, match=r"train.steps=1000.* at most 2147483647"):
        check(config)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "a\nb", ""])
def test_a_name_that_no_folder_can_have_is_refused(name):
    config = get_config("ablation:zero_gamma,data=digits")
    config.name = name
    with pytest.raises(ConfigError, match=r"name=.* characters that can be printed"):
        check(config)


def test_a_name_cannot_lead_out_of_runs():
    config = get_config("ablation:zero_gamma,data=digits")
    config.name = "../../elsewhere"
    assert default_workdir(config).parts[:-1] == ("runs",)


def test_a_seed_that_jax_would_cut_to_another_one_is_refused():
    import jax

    config = get_config("ablation:zero_gamma,data=digits")
    config.seed = 2**32 - 1
    check(config)
    config.seed = 2**32
    keys = [jax.random.key_data(jax.random.key(seed)).tolist() for seed in (0, 2**32)]
    assert keys[0] == keys[1]
    with pytest.raises(ConfigError, match=r"seed=4294967296 is not .* 4294967295"):
        check(config)


def test_epochs_that_make_too_many_steps_are_refused():
    config = get_config("ablation:zero_gamma,data=digits")
    config.train.epochs = 1e6
    assert count_steps(config, 2000.0) == 2_000_000_000
    with pytest.raises(ConfigError, match=r"epochs=1e\+06 are 3,000,000,000 steps"):
        count_steps(config, 3000.0)


def test_a_config_json_is_read_as_data_and_never_run(tmp_path):
    flat = flatten(get_config("ablation:zero_gamma,data=digits"))
    marker = tmp_path / "ran"
    code = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    for field in ("name", "data.name", "model.name", "train.weights"):
        (tmp_path / "config.json").write_text(json.dumps(flat | {field: code}))
        with contextlib.suppress(CheckpointError):
            read_config(tmp_path)
    assert not marker.exists()
