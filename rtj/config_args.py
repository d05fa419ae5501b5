"""The argument of a config file: `row,key=value,...`, and config files by name."""

import runpy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from rtj.config import check
from rtj.errors import ConfigError, nearest_first, unknown

Parser = Callable[[str], Any]


def parse_argument(
    argument: str, *, rows: Sequence[str], keys: Mapping[str, Parser]
) -> tuple[str, dict[str, Any]]:
    """`"zero_gamma,batch=256"` to `("zero_gamma", {"batch": 256})`.

    Args:
        argument: what stands after the colon of `--config=FILE.py:`.
        rows: the allowed rows.
        keys: the allowed keys; each parser raises ValueError, whose text says what
            is allowed.

    Raises:
        ConfigError: names the unknown row or key, or the value, and what is
            allowed, nearest match first.
    """
    row, *pairs = [part.strip() for part in argument.split(",")]
    if not row:
        raise ConfigError(f"a row is missing after the colon; rows: {', '.join(rows)}")
    if row not in rows:
        raise unknown("row", row, rows)
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if key not in keys:
            raise _unknown_key(key, keys, argument)
        if not equals or key in values:
            raise ConfigError(f"{pair!r}: each key is given once, as {key}=VALUE")
        try:
            values[key] = keys[key](text)
        except ValueError as error:
            raise ConfigError(
                f"{key}={text!r} is not allowed; allowed: {error}"
            ) from error
    return row, values


def _unknown_key(key: str, keys: Mapping[str, Parser], argument: str) -> ConfigError:
    error = unknown("key", key, keys)
    if "/" not in argument:
        return error
    return ConfigError(
        f"{error}; a value holds no comma: if this is the rest of a path, make a link "
        "to it whose name has none"
    )


def one_of(*allowed: str) -> Parser:
    """A parser of one word out of a few."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(" | ".join(nearest_first(text, allowed)))
        return text

    return parse


def integer(low: int) -> Parser:
    """A parser of integers from `low` on."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise ValueError(f"an integer of at least {low}")
        return int(text)

    return parse


def get_config(name: str) -> ConfigDict:
    """The config that `--config=configs/FILE.py:ARG` gives, for `"FILE:ARG"`.

    `rtj.get_config("ablation:zero_gamma")` works in a notebook, from any folder.
    """
    config = get_named(name)
    check(config)
    return config


def get_named(name: str) -> ConfigDict:
    """`get_config` without its check, for config files that build on another one."""
    file, _, argument = name.partition(":")
    return _run_file(file)["get_config"](argument)


def list_rows(file: str = "ablation") -> list[str]:
    """The rows that `configs/FILE.py` knows, in the order of the paper's tables."""
    rows = _run_file(file).get("ROWS")
    if rows is None:
        raise ConfigError(f"configs/{file}.py has no list of rows; see its docstring")
    return list(rows)


def config_file(file: str) -> Path:
    """`configs/FILE.py`, for `--config` in any folder."""
    folder = _config_folder()
    files = sorted(path.stem for path in folder.glob("*.py"))
    if file not in files:
        raise unknown("config file", file, files)
    return folder / f"{file}.py"


def _run_file(file: str) -> dict[str, Any]:
    return runpy.run_path(str(config_file(file)))


def _config_folder() -> Path:
    """`configs/` inside an installed wheel, or beside the package in a checkout."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"
