"""A source's images into a TFDS data set of ArrayRecord files, without TensorFlow.

The records stand in the source's order, for folders that of the classes: TFDS's parts
of a split, such as `train[:10%]`, are then a few classes. Training shuffles by itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtj.data import sources
from rtj.data.examples import Source
from rtj.data.prepare import tfds_writer
from rtj.data.prepare.array_record_file import (
    Record,
    ShardFacts,
    check_space,
    disk_errors,
    write_shard,
)
from rtj.data.prepare.conversion_plan import absolute, make_plan
from rtj.data.prepare.image_progress import ImageProgress
from rtj.data.prepare.image_record import (
    MakeRecord,
    class_names,
    id_feature,
    record_maker,
)
from rtj.data.prepare.ordered_map import ordered_map
from rtj.data.prepare.reencode import Reencoding
from rtj.data.prepare.shard_ledger import Ledger, open_ledger
from rtj.data.prepare.target import new_target
from rtj.data.tfds_source import TfdsSource
from rtj.errors import DataError

SPLITS = ("train", "validation", "val", "test")


@dataclass(frozen=True)
class Settings:
    """How to convert.

    Args:
        how: to re-encode images; None copies their bytes.
        shard_mb: about the size of a shard, MiB.
        workers: threads.
    """

    how: Reencoding | None = None
    shard_mb: float = 256
    workers: int = 1


def open_splits(
    source: str, data_dir: str, splits: Sequence[str] = ()
) -> dict[str, Source]:
    """The splits of a data set to convert, `val` as `validation`.

    Args:
        splits: of the source; () for all that have a usual name.

    Raises:
        DataError: no such data set or split, or none with a usual name.
    """
    there = sources.splits(source, data_dir)
    chosen = list(splits) or [split for split in SPLITS if split in there]
    if not chosen:
        raise DataError(
            f"{source} has no split {', '.join(SPLITS)} but {', '.join(there)}; name "
            "those to convert: --splits=NAME,..."
        )
    opened: dict[str, Source] = {}
    for split in chosen:
        name = "validation" if split == "val" else split
        if name in opened:
            raise DataError(f"{source}: 'val' and 'validation' would both be {name!r}")
        opened[name] = sources.open_source(source, split, data_dir=data_dir)
    return opened


def convert(
    source: str,
    opened: Mapping[str, Source],
    name: str,
    data_dir: str,
    settings: Settings,
) -> dict[str, Any]:
    """Writes `DATA_DIR/NAME/VERSION` from the splits of a data set.

    A call that ends early keeps its finished shards, and the same call goes on.

    Args:
        source: where the splits come from, for the plan and the description.
        opened: the splits, by their new names (`open_splits`).
        name: of the new data set. As `imagenet2012` it is what `imagenet` opens, with
            the features and classes of TFDS's own.
        data_dir: the TFDS data dir.

    Returns: `data_set`, `folder`, `splits` (examples of each), `shards`, `bytes`,
        `reencoded` (images) and `undecodable` (ids, when re-encoding; these images are
        kept as they are).

    Raises:
        ConfigError: the name is not allowed or taken, the folder cannot be written, or
            it was begun from another source or with other settings.
        DataError: the source cannot be read, the disk is full.
    """
    target = new_target(name, data_dir)
    names = class_names(opened, name)
    features, make = record_maker(names, id_feature(name), settings.how)
    plan, size = make_plan(
        source,
        opened,
        names,
        make,
        settings.how,
        shard_bytes=round(settings.shard_mb * 2**20),
        workers=settings.workers,
    )
    folder = target.under_way
    with open_ledger(folder, plan, redo=folder) as ledger:
        written = sum(facts.file_bytes for facts in ledger.finished.values())
        check_space(folder, size - written)
        shards = _write_splits(ledger, name, opened, plan, make, settings.workers)
        with disk_errors(folder):
            tfds_writer.write_metadata(
                folder,
                name=name,
                version=target.version,
                features_dict=features,
                shards=shards,
                description=_description(source, settings.how),
            )
        _check(folder, name, shards, names)
    target.publish()
    return report(name, target.folder, shards)


def _write_splits(
    ledger: Ledger,
    name: str,
    opened: Mapping[str, Source],
    plan: Mapping[str, Any],
    make: MakeRecord,
    workers: int,
) -> dict[str, list[ShardFacts]]:
    """Writes what the ledger lacks; returns the shards of each split."""
    total = sum(len(part) for part in opened.values())
    done = sum(facts.examples for facts in ledger.finished.values())
    progress = ImageProgress("convert", total, done)
    shards: dict[str, list[ShardFacts]] = {}
    for split, part in opened.items():
        lengths = plan["splits"][split]["shard_lengths"]
        files = tfds_writer.shard_names(name, split, len(lengths))
        start = 0
        for file, length in zip(files, lengths, strict=True):
            if file not in ledger.finished:
                indices = range(start, start + length)
                records = _records(part, indices, make, workers, progress)
                ledger.note(file, write_shard(ledger.folder / file, records, length))
            start += length
        shards[split] = [ledger.finished[file] for file in files]
    progress.close()
    return shards


def _records(
    part: Source,
    indices: range,
    make: MakeRecord,
    workers: int,
    progress: ImageProgress,
) -> Iterator[Record]:
    for record in ordered_map(lambda index: make(part[index]), indices, workers):
        if record.undecodable:
            progress.note(f"{record.undecodable} cannot be decoded, kept as it is")
        yield record
        progress.add()


def _description(source: str, how: Reencoding | None) -> str:
    changes = how.describe() if how else "images as they are"
    return f"Converted by rtj from {absolute(source)}: {changes}."


def _check(
    folder: Path,
    name: str,
    shards: Mapping[str, Sequence[ShardFacts]],
    names: Sequence[str],
) -> None:
    """DataError unless TFDS reads back what was written."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    if builder.info.features["label"].names != list(names):
        raise DataError(
            f"{folder}: TFDS does not read the names of the classes back; they must "
            "have no line breaks and no spaces at their ends"
        )
    for split, done in shards.items():
        count = len(TfdsSource(builder, split, f"tfds:{name}"))
        if count != sum(facts.examples for facts in done):
            raise DataError(f"{folder}: TFDS finds {count} examples in {split}")


def report(
    name: str, folder: Path, shards: Mapping[str, Sequence[ShardFacts]]
) -> dict[str, Any]:
    """What `convert` returns."""
    done = [facts for part in shards.values() for facts in part]
    return {
        "data_set": f"tfds:{name}",
        "folder": str(folder),
        "splits": {
            split: sum(facts.examples for facts in part)
            for split, part in shards.items()
        },
        "shards": len(done),
        "bytes": sum(facts.file_bytes for facts in done),
        "reencoded": sum(facts.reencoded for facts in done),
        "undecodable": [name for facts in done for name in facts.undecodable],
    }
