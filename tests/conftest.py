"""Eight virtual CPU devices, a data directory of the tests' own, and `run_rtj`."""

import os
import shutil
import signal
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
# Most programs here run once, on tiny arrays, and LLVM's optimiser is two thirds of
# compiling them: test_evaluation.py and the quick part of test_steps.py take 47 s
# instead of 126. What `launch/local.sh` trains in test_readme.py is compiled as for a
# user.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
)


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts `... &` with SIGINT ignored, which a test of Ctrl-C would inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # TFDS reads it when it is imported, which a fixture would be too late for.
    os.environ["TFDS_DATA_DIR"] = tempfile.mkdtemp(prefix="rtj-test-tfds-")
    # Many tests compile the same programs; a run's 10 seconds become 2. The workers
    # of pytest-xdist share what their parent made.
    if "PYTEST_XDIST_WORKER" not in os.environ:
        cache = tempfile.mkdtemp(prefix="rtj-test-jax-")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # -m 'not slow' takes the place of the -m in pyproject.toml.
    for item in items:
        if item.get_closest_marker("exhaustive"):
            item.add_marker("slow")

    # The longest first, so that no worker is left alone with one at the end: the
    # real training run, then what is marked slow.
    def rank(item: pytest.Item) -> int:
        if "local_sh_trains" in item.name:
            return 0
        return 1 if item.get_closest_marker("slow") else 2

    items.sort(key=rank)
    units: dict[object, list[pytest.Item]] = {}
    for item in items:
        # True: the module's tests; a word: those of all modules that have it.
        module = getattr(item, "module", None)
        together = getattr(module, "TOGETHER", False)
        unit = module if together is True else together or item
        units.setdefault(unit, []).append(item)
    # Each worker starts with one stretch of the list and later steals from the ends of
    # the others', so each stretch gets its share of the long ones, at its beginning.
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    dealt = list(units.values())
    items[:] = [
        item
        for first in range(workers)
        for unit in dealt[first::workers]
        for item in unit
    ]


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(os.environ.pop("TFDS_DATA_DIR"), ignore_errors=True)
    if "PYTEST_XDIST_WORKER" not in os.environ:
        cache = os.environ.pop("JAX_COMPILATION_CACHE_DIR")
        shutil.rmtree(cache, ignore_errors=True)


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


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program given as text in a Python of its own, from the repository root."""

    def run(program: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Any]:
    """Makes a config that trains on real digits in seconds: 14 pixels, width 4.

    Called as `tiny_config("zero_gamma", **{"train.steps": 5})`.
    """
    from rtj.config import set_field
    from rtj.config_args import get_config

    base = {
        "model.width": 4,
        "model.small_images": True,
        "model.bn_group_size": 8,
        "train.batch_size": 32,
        "train.steps": 20,
        "train.eval_every": 0.0,
        "train.save_every": 0.0,
        "train.log_every": 1,
        "data.image_size": 14,
        "data.eval_resize": 14,
        "data.eval_split": "test[:100]",
        "mesh.devices": 1,
    }

    def make(row: str = "zero_gamma", **changes: Any) -> Any:
        config = get_config(f"ablation:{row},data=digits")
        for field, value in (base | changes).items():
            set_field(config, field, value)
        return config

    return make


@pytest.fixture
def launcher(tmp_path: Path) -> Any:
    """A copy of launch/ and a fake Python; see `tests.launcher.Launcher`."""
    from tests.launcher import Launcher

    made = Launcher(tmp_path)
    made.add_python("python3")
    return made
