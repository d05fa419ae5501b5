"""The scripts of launch/ with a fake Python, which records what it is asked."""

import re
import shutil
import signal
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = (
    "bash cksum cp dirname find flock grep ls mkdir mkfifo mktemp mv rm sed sleep sort "
    "touch"
)

# FAKE_VENV and FAKE_PIP choose how the fake misbehaves: kill, fail, slow. FAKE_PROGRAM
# is what it runs as `rtj.main`.
FAKE_PYTHON = """#!BASH
set -eu
version=VERSION
case " $* " in
  " -c import sys"*) echo "$version"; exit ;;
esac
printf '%s\\n' "$*" >>"$FAKE_LOG"
misbehave() {
  case $1 in
    kill) kill -9 0 ;;
    fail) echo "fake failure" >&2; exit 1 ;;
    slow) sleep 0.5 ;;
  esac
}
case "$1 $2" in
  "-m venv")
    for directory; do :; done
    mkdir -p "$directory/bin"
    touch "$directory/pyvenv.cfg"
    cp "$0" "$directory/bin/python"
    [[ $3 == --without-pip ]] || misbehave "${FAKE_VENV:-}"
    ;;
  "-m pip") misbehave "${FAKE_PIP:-}" ;;
  "-P -m")
    [[ -z ${FAKE_PROGRAM:-} ]] || eval "$FAKE_PROGRAM"
    printf '%s\\0' "$$" "$PWD" "$@"
    exit "${FAKE_EXIT:-0}"
    ;;
  *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""


class Launcher:
    """A copy of the scripts, a PATH without Python, and a record of the calls."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "the repo"
        self.bin = folder / "bin"
        self.elsewhere = folder / "else where"
        self.log = folder / "log"
        self.venv = self.root / ".venv"
        for directory in (self.root, self.bin, self.elsewhere):
            directory.mkdir()
        self.log.touch()
        for name in ("launch", ".ci"):
            shutil.copytree(ROOT / name, self.root / name)
        shutil.copy(ROOT / "pyproject.toml", self.root)
        for tool in TOOLS.split():
            if path := shutil.which(tool):
                (self.bin / tool).symlink_to(path)

    def add_python(self, name: str, version: str = "3.11") -> Path:
        path = self.bin / name
        bash = str(self.bin / "bash")
        path.write_text(FAKE_PYTHON.replace("BASH", bash).replace("VERSION", version))
        path.chmod(0o755)
        return path

    def start(self, script: str, *args: str, **env: str) -> subprocess.Popen[str]:
        # A test worker ignores SIGINT, and so would whatever it starts: bash cannot
        # trap a signal that was ignored when it began.
        taken = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return self._popen(script, *args, **env)
        finally:
            signal.signal(signal.SIGINT, taken)

    def _popen(self, script: str, *args: str, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.bin / "bash", self.root / script, *args],
            cwd=self.elsewhere,
            env={"PATH": str(self.bin), "FAKE_LOG": str(self.log), **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def call(self, script: str, *args: str, **env: str) -> "Result":
        process = self.start(script, *args, **env)
        out, err = process.communicate(timeout=60)
        return Result(process.pid, process.returncode, out, err)

    def local(self, *args: str, **env: str) -> "Result":
        return self.call("launch/local.sh", *args, **env)

    def installs(self) -> list[str]:
        """The extras of each pip install so far."""
        return re.findall(r"^-m pip install .*--editable \.\[(.*)\]$", self.text, re.M)

    def venvs(self) -> int:
        """How many times an environment has been made."""
        return self.text.count("-m venv")

    @property
    def text(self) -> str:
        return self.log.read_text()


class Result:
    """What the launched program saw: its process id, directory and arguments."""

    def __init__(self, launched: int, code: int, out: str, err: str) -> None:
        self.launched, self.code, self.err = launched, code, err
        pid, cwd, *args = out.split("\0")[:-1] or ["", ""]
        self.pid, self.cwd, self.args = pid, cwd, args
