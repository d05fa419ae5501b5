"""Mutated command lines, fields and config.json: a config, or one RtjError."""

import contextlib
import faulthandler
import json
import random
from typing import Any

import pytest

from rtj.config import (
    check,
    config_hash,
    default_config,
    difference,
    flatten,
    set_field,
)
from rtj.config_args import get_config
from rtj.data.decode import make_decoding
from rtj.errors import CheckpointError, ConfigError, RtjError
from rtj.fields import ALL_FIELDS
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

BASES = (
    "ablation.py:zero_gamma,data=digits",
    "ablation.py:mixup,data=synthetic,batch=large",
    "ablation.py:cosine,mode=only,precision=fp16",
    "transfer.py:digits,epochs=2,weights=w",
    "segmentation.py:scenes,row=mixup",
    "detection.py:scenes,epochs=3,seed=1",
)
TEXTS = (
    *("", "0", "-1", "1", "3", "0.5", "1e999", "-1e999", "nan", "1e-400", "1e30"),
    *("9" * 30, "9" * 5000, "2147483648", "4294967296", "True", "none", "None"),
    *("(", ")" * 3, "(1,", "(0.1,0.5)", "(nan,1)", "(1,1e400)", "1,2,3", "[1]", "{}"),
    *("é", "\ud800", "²", "٣", "a b", "a\nb", "'", '"', "%s", "{0}", "../..", "~"),
    *("tfds:", "folder:", "tar:x", "resnet50", "resnet-50", "__class__", "a.b", "="),
    *("(" * 300, "(1" + ",1" * 3000 + ")", "\u202e", "\x7f", "lambda: 0"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3, 2**31, 2**32, 2**63, 2**64, -(10**400)),
    *(10**400, 0.0, -0.0, 0.5, 1e-320, 1e300, 3e38, 4e38, float("inf")),
    *(-float("inf"), float("nan"), "", "x", "\ud800", "é", "9", "resnet50b", b"x"),
    *((), (1,), (0.1, 0.5), (float("nan"), 1.0), (1.0, float("inf")), (1, "x")),
    *(((1,), 2), (True, True), (1.0, 2.0, 3.0), (1e300,) * 3, [1, 2], {}, {"a": 1}),
    *((None, None), tuple(range(1000)), ("a", "b"), 1j, range(3), object()),
)
FLAGS = (
    *("mode", "checkpoint", "profile", "distributed", "processes", "process", "help"),
    *("compile_cache", "flagfile", "undefok", "", "-", "nomode", "config"),
)
FLAT = flatten(default_config())


@contextlib.contextmanager
def no_hang(seconds=60):
    """Ends the process, with a traceback, if a case takes that long."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def near(value, rng):
    """Another value of the same type, which is often allowed."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return rng.choice([value, value * 2, value + 1, type(value)(value / 2)])
    if isinstance(value, tuple):
        return tuple(near(part, rng) for part in value)
    return value


def mutated_argument(rng):
    """A row and its keys, with letters and words changed, moved and doubled."""
    text = rng.choice(BASES)
    file, _, argument = text.partition(":")
    words = argument.split(",")
    kind = rng.randrange(6)
    if kind == 0:
        at = rng.randrange(len(argument))
        argument = argument[:at] + rng.choice("=,:/ é\0x0") + argument[at + 1 :]
    elif kind == 1:
        argument = ",".join([*words, rng.choice(words)])
    elif kind == 2:
        rng.shuffle(words)
        argument = ",".join(words)
    elif kind == 3:
        key = rng.choice(words).partition("=")[0]
        argument = f"{argument},{key}={rng.choice(TEXTS)}"
    elif kind == 4:
        argument = f"{argument},{rng.choice(TEXTS)}={rng.choice(TEXTS)}"
    else:
        argument = argument[: rng.randrange(len(argument))]
    return f"--config=configs/{file}:{argument}"


def mutated_override(rng):
    """`--config.FIELD=VALUE` with something wrong in it, or nothing."""
    field, value = rng.choice(sorted(ALL_FIELDS)), rng.choice(TEXTS)
    if rng.random() < 0.4:
        field = rng.choice(sorted(FLAT.keys() - {"task"}))
        value = near(FLAT[field], rng)
    return rng.choice(
        [f"--config.{field}={value}"] * 6
        + [
            f"--config.{field}",
            f"--noconfig.{field}",
            f"--config.{field}.{rng.choice(TEXTS)}={value}",
            f"--config.{field[:-1]}={value}",
            f"--config..{field}={value}",
            f"--config.{field.partition('.')[0]}={value}",
        ]
    )


def mutated_flag(rng):
    """One of the other flags, unknown or with another value."""
    return f"--{rng.choice(FLAGS)}={rng.choice(TEXTS)}"


def mutated_command(rng):
    arguments = [f"--config=configs/{rng.choice(BASES)}"]
    if rng.random() < 0.5:
        arguments = [mutated_argument(rng)]
    for _ in range(rng.choice((0, 1, 1, 2))):
        arguments.append(mutated_override(rng))
    if rng.random() < 0.2:
        arguments.append(mutated_flag(rng))
    if rng.random() < 0.1:
        arguments.append(rng.choice(arguments))
    return ["rtj.main", *arguments]


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


def mutated_json(text, rng):
    """Bytes of a config.json that somebody, or a disk, has changed."""
    flat = json.loads(text)
    key = rng.choice(sorted(flat))
    kind = rng.randrange(6)
    if kind == 0:
        return text[: rng.randrange(len(text))]
    if kind == 1:
        at = rng.randrange(len(text))
        return text[:at] + rng.choice('{}[]",:0e-\\') + text[at + 1 :]
    if kind == 2:
        flat[key] = rng.choice([None, [], {}, "", "x", -1, 10**400, [[1]], {"a": 1}])
    elif kind == 3:
        del flat[key]
    elif kind == 4:
        flat[rng.choice([key + "x", "model", "data", "a.b.c", "", "."])] = 1
    else:
        return rng.choice(
            ["", "[]", "null", "1", "[" * 100_000, '{"a": NaN}', "\ufeff"]
        )
    return json.dumps(flat)


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
