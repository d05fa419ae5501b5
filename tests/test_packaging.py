"""The package as built, linted, typed and imported; the files that describe it."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    *PROJECT["dependencies"],
    *(r for group in PROJECT["optional-dependencies"].values() for r in group),
]
HEAVY = ["tensorflow", "torch", "tensorflow_datasets", "orbax", "grain"]


def run_python(*args, cwd=ROOT):
    return subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def hooks():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    return [hook for repo in config["repos"] for hook in repo["hooks"]]


def slow_if_it_checks_types(hook):
    marks = [pytest.mark.slow] if hook["id"] == "mypy" else []
    return pytest.param(hook, id=hook["id"], marks=marks)


@pytest.mark.parametrize("hook", [slow_if_it_checks_types(hook) for hook in hooks()])
def test_pre_commit_hook_is_clean(hook):
    python, *args = hook["entry"].split()
    assert (python, hook["language"]) == ("python", "system")
    result = run_python(*args)
    assert result.returncode == 0, result.stdout + result.stderr


def test_pre_commit_hooks_are_format_lint_and_types():
    assert [hook["id"] for hook in hooks()] == ["ruff-format", "ruff-check", "mypy"]


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [("rtj", HEAVY), ("rtj.models", HEAVY), ("rtj.data", ["tensorflow", "torch"])],
)
def test_import_is_light(module, unwanted):
    program = f"import sys, {module}; print(*sys.modules)"
    result = run_python("-c", program)
    assert result.returncode == 0, result.stderr
    loaded = set(result.stdout.split())
    assert module in loaded
    assert loaded.isdisjoint(unwanted)


def test_requirements_have_lower_bounds_and_no_caps():
    for requirement in REQUIREMENTS:
        if not requirement.startswith("rtj["):
            assert re.fullmatch(r"[\w-]+(\[\w+\])?>=\d+(\.\d+)*", requirement)


@pytest.mark.parametrize("name", ["pyproject.toml", "launch/common.sh", ".ci/run"])
def test_installation_names_no_host_index_or_machine_path(name):
    text = (ROOT / name).read_text()
    assert not re.search(r"://|index|find-links|/home/|/root/|/tmp/", text)


def test_required_packages_are_the_announced_ones():
    names = {re.split(r"[\[>]", r)[0].lower() for r in PROJECT["dependencies"]}
    assert names == {
        "absl-py",
        "flax",
        "grain",
        "jax",
        "ml_collections",
        "numpy",
        "optax",
        "orbax-checkpoint",
        "pillow",
        "tensorboardx",
        "tensorflow-datasets",
        "tqdm",
    }
    assert PROJECT["requires-python"] == ">=3.11"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    result = run_python("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    assert result.returncode == 0, result.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_the_whole_package_the_configs_and_the_license(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert wheel.name == "rtj-0.1.0-py3-none-any.whl"
    sources, styles = (
        {str(path.relative_to(ROOT)) for path in (ROOT / "rtj").rglob(f"*.{suffix}")}
        for suffix in ("py", "css")
    )
    configs = {f"rtj/configs/{path.name}" for path in (ROOT / "configs").glob("*.py")}
    assert "rtj/configs/ablation.py" in configs
    assert {name for name in names if name.endswith(".py")} == sources | configs
    assert styles == {"rtj/study/report.css"} == styles & names
    assert "rtj-0.1.0.dist-info/licenses/LICENSE" in names


def test_installed_wheel_imports_away_from_the_repository(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    program = "import rtj, rtj.models; print(rtj.__file__)"
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout.strip() == str(tmp_path / "rtj/__init__.py"), result.stderr


def test_license_is_the_whole_apache_license():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    for section in range(1, 10):
        assert f"\n   {section}. " in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "APPENDIX: How to apply the Apache License to your work." in text


def test_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    authors = [f"{a['given-names']} {a['family-names']}" for a in paper["authors"]]
    assert authors == [
        "Tong He",
        "Zhi Zhang",
        "Hang Zhang",
        "Zhongyue Zhang",
        "Junyuan Xie",
        "Mu Li",
    ]
    assert (paper["year"], paper["start"], paper["end"]) == (2019, 558, 567)
    assert paper["identifiers"][0]["value"] == "arXiv:1812.01187"


def test_changelog_speaks_of_this_version():
    assert PROJECT["version"] in (ROOT / "CHANGELOG.md").read_text()
