"""Options of a pipeline as its tests give them, flat."""

from dataclasses import fields
from typing import Any

from rtj.data.reading import Reading

_FIELDS = {field.name for field in fields(Reading)}


def gathered(options: dict[str, Any]) -> dict[str, Any]:
    """`options`, those that are fields of `Reading` made into one."""
    rest = {key: value for key, value in options.items() if key not in _FIELDS}
    own = {key: value for key, value in options.items() if key in _FIELDS}
    return rest | {"reading": Reading(**own)}
