"""Work in a process of its own, of this Python or another: JSON in, JSON out."""

import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import rtj
from rtj.errors import RtjError


def ask(
    module: str,
    order: Mapping[str, Any],
    *,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Runs `python -m module` with the order on its stdin.

    Returns:
        The JSON object of its last line of stdout; `error`, the last line of stderr,
        if it fails.
    """
    done = subprocess.run(
        [python, "-m", module],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        if done.returncode < 0:
            last = f"killed by {signal.Signals(-done.returncode).name}; {last}"
        return {"error": last}
    return json.loads(done.stdout.splitlines()[-1])


def is_installed(package: str, python: str = sys.executable) -> bool:
    """Whether a Python can import `package`; it is not imported."""
    if python != sys.executable:
        program = (
            "import importlib.util, sys; "
            f"sys.exit(importlib.util.find_spec({package!r}) is None)"
        )
        return not subprocess.run([python, "-c", program], check=False).returncode
    parent = package.partition(".")[0]
    if importlib.util.find_spec(parent) is None:
        return False
    return importlib.util.find_spec(package) is not None


def lend_rtj(python: str, folder: Path) -> dict[str, str]:
    """The environment in which `python -m rtj...` is this rtj.

    Another Python gets a folder with nothing in it but a link to rtj, since packages
    beside this one may be for this Python alone.
    """
    if python == sys.executable:
        return dict(os.environ)
    link = folder / "rtj"
    if not link.exists():
        link.symlink_to(Path(rtj.__file__).resolve().parent)
    return os.environ | {"PYTHONPATH": str(folder)}


def load_entry(entry: str) -> Callable[..., Any]:
    """The function behind 'module:function'."""
    module, _, function = entry.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise RtjError(f"{entry} cannot be imported: {error}") from error
