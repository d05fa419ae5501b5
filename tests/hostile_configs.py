"""Command lines, fields and config files with something wrong in them."""

import json
from typing import Any

from rtj.config import (
    default_config,
    flatten,
)
from rtj.fields import ALL_FIELDS

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
