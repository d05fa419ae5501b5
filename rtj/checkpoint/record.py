"""What a checkpoint keeps beside its state, in `STEP/metadata/metadata`, as JSON.

| key | content |
|---|---|
| `format_version` | 2; in 1 there are no checksums, and such a checkpoint is trusted |
| `config_hash` | of the run's config |
| `evaluation` | the newest one when it was saved, with its `step`, or null |
| `leaves` | dtype and shape of each leaf of the state, by name |
| `sha256` | of each leaf's bytes, by name |
| `own_sha256` | of all of the above |
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from rtj.checkpoint.damage import Damage
from rtj.checkpoint.leaves import checksums, layouts

FORMAT_VERSION = 2
_WITHOUT_CHECKSUMS = 1
_OWN = "own_sha256"

Evaluation = dict[str, float]
Record = dict[str, Any]


def make_record(tree: Any, config_hash: str, evaluation: Evaluation | None) -> Record:
    """The record of a state, given as the tree that is saved with it."""
    record = {
        "format_version": FORMAT_VERSION,
        "config_hash": config_hash,
        "evaluation": evaluation,
        "leaves": layouts(tree),
        "sha256": checksums(tree),
    }
    return record | {_OWN: _hash(record)}


def read_record(step_folder: Path) -> Record:
    """The record of a checkpoint, the same as it was written.

    Raises:
        Damage: it is not there or not that.
        ValueError: this rtj is too old for its format.
    """
    try:
        record = json.loads((step_folder / "metadata" / "metadata").read_text())
    except (OSError, ValueError) as error:
        raise Damage(f"its metadata cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise Damage("its metadata is no record of rtj")
    version = record.get("format_version")
    if version == _WITHOUT_CHECKSUMS and "sha256" not in record and _OWN not in record:
        return record
    rest = {key: value for key, value in record.items() if key != _OWN}
    if record.get(_OWN) != _hash(rest):
        raise Damage("its metadata does not have its checksum")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"format {version}; this rtj reads {_WITHOUT_CHECKSUMS} and "
            f"{FORMAT_VERSION}"
        )
    return record


def check_leaves(record: Record, tree: Any) -> None:
    """Raise Damage if a leaf of `tree` is not what the record has a checksum of.

    `tree` may be a part of what was saved. Format 1 has no checksums.
    """
    if "sha256" not in record:
        return
    found = checksums(tree)
    wrong = [name for name in found if record["sha256"].get(name) != found[name]]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise Damage(f"{wrong[0]}{more} does not have its checksum")


def _hash(record: Record) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
