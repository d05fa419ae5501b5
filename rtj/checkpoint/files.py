"""A listing of the files of a checkpoint's arrays, made before it gets its name.

Asked to read a damaged file, Orbax may leave a dozen unhandled errors of its own on the
console, so these files are looked at first. The listing decides nothing else: without
it, what is restored still has to have the checksums of `rtj.checkpoint.record`.
"""

import hashlib
import json
from pathlib import Path

from rtj.checkpoint.damage import Damage

LISTING = "files.json"
_TIMESTAMP = "commit_success.txt"  # Orbax restores without it


def write_listing(step_folder: Path) -> None:
    """Writes size and SHA-256 of what Orbax reads into `step_folder`/files.json."""
    listing = {
        path.relative_to(step_folder).as_posix(): [path.stat().st_size, _sha256(path)]
        for path in sorted((step_folder / "state").rglob("*"))
        if path.is_file() and path.name != _TIMESTAMP
    }
    (step_folder / LISTING).write_text(json.dumps(listing, indent=1))


def check_files(step_folder: Path) -> None:
    """Raise Damage if a listed file is not as it was."""
    for name, size, sha256 in _read_listing(step_folder):
        path = step_folder / name
        if not path.is_file():
            raise Damage(f"{name} is gone")
        if path.stat().st_size != size:
            raise Damage(f"{name} has {path.stat().st_size} bytes of {size}")
        if _sha256(path) != sha256:
            raise Damage(f"{name} does not have its checksum")


def _read_listing(step_folder: Path) -> list[tuple[str, int, str]]:
    try:
        listing = json.loads((step_folder / LISTING).read_text())
        return [(name, size, sha256) for name, (size, sha256) in listing.items()]
    except (OSError, ValueError, TypeError, AttributeError):
        return []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
