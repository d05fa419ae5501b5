"""Eight virtual CPU devices, a data directory of the tests' own, and `run_rtj`."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Read when jax is imported, so set before any test module is; subprocesses inherit it.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"


def pytest_configure(config: pytest.Config) -> None:
    # TFDS reads it when it is imported, which a fixture would be too late for.
    os.environ["TFDS_DATA_DIR"] = tempfile.mkdtemp(prefix="rtj-test-tfds-")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(os.environ.pop("TFDS_DATA_DIR"), ignore_errors=True)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def tfds_data_dir() -> Path:
    """The TFDS data dir of this test session and its subprocesses, empty at first."""
    return Path(os.environ["TFDS_DATA_DIR"])


@pytest.fixture(scope="session")
def run_rtj() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m rtj.main` with `args` from the repository root.

    `env` adds to the environment; a timeout (seconds) fails the test.
    """

    def run(
        args: list[str],
        module: str = "rtj.main",
        timeout: float = 300,
        env: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *args],
            cwd=ROOT,
            env=os.environ | (env or {}),
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
            **kwargs,
        )

    return run
