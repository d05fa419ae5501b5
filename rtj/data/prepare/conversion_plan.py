"""What must stay the same for a conversion to go on where it was stopped."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import PIL

from rtj.data.examples import Example, Listed, Source
from rtj.data.prepare.array_record_file import Record
from rtj.data.prepare.image_record import MakeRecord, encoded
from rtj.data.prepare.ordered_map import ordered_map
from rtj.data.prepare.reencode import Reencoding
from rtj.data.prepare.shard_ledger import Plan
from rtj.errors import DataError

# Of each split, evenly spaced: enough for the mean size of ImageNet's files to 7 %, and
# to notice other images under the same names.
_SAMPLES = 256
_BYTES_A_RECORD = 80  # ArrayRecord's own, measured


def make_plan(
    source: str,
    opened: Mapping[str, Source],
    class_names: list[str],
    make: MakeRecord,
    how: Reencoding | None,
    *,
    shard_bytes: int,
    workers: int,
) -> tuple[Plan, int]:
    """The plan of converting the splits in `opened`, and the expected size in bytes.

    Reads, and makes records of, up to 256 examples of each split.

    Raises:
        DataError: a split is empty or cannot be read.
    """
    splits, size = {}, 0
    for split, part in opened.items():
        fingerprint, mean = _sample(part, make, workers)
        size += round(mean * len(part))
        shards = -(-round(mean * len(part)) // shard_bytes)
        splits[split] = {
            "fingerprint": fingerprint,
            "shard_lengths": _even_parts(len(part), min(shards, len(part))),
        }
    plan = {
        "source": absolute(source),
        "classes": hashlib.sha256("\n".join(class_names).encode()).hexdigest(),
        "reencoding": how and asdict(how) | {"pillow": PIL.__version__},
        "splits": splits,
    }
    return plan, size


def absolute(source: str) -> str:
    """`folder:PATH` and the like with an absolute PATH; other sources as they are."""
    kind, _, path = source.partition(":")
    if kind not in ("folder", "tar", "tfrecord"):
        return source
    return f"{kind}:{Path(path).expanduser().absolute()}"


def _even_parts(count: int, parts: int) -> list[int]:
    bounds = [count * part // parts for part in range(parts + 1)]
    return [bounds[part + 1] - bounds[part] for part in range(parts)]


def _sample(part: Source, make: MakeRecord, workers: int) -> tuple[str, float]:
    """A fingerprint of a split, and the mean size of its records in a shard."""
    if not len(part):
        raise DataError(f"{part.name}: a split is empty")

    def read(index: int) -> tuple[Example, Record]:
        example = part[index]
        return example, make(example)

    digest = hashlib.sha256(str(len(part)).encode())
    if isinstance(part, Listed):
        for label, example_id in map(part.label_and_id, range(len(part))):
            digest.update(f"{example_id}\n{label}\n".encode(errors="surrogateescape"))
    indices = np.unique(np.linspace(0, len(part) - 1, _SAMPLES).astype(int)).tolist()
    size = 0
    for example, record in ordered_map(read, indices, workers):
        image = hashlib.sha256(encoded(example["image"])).hexdigest()
        digest.update(f"{example['id']}\n{example['label']}\n{image}\n".encode())
        size += len(record.data) + _BYTES_A_RECORD
    return digest.hexdigest(), size / len(indices)
