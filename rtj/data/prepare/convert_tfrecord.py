"""A TFDS data set of TFRecord files into ArrayRecord files, without TensorFlow.

Records are copied byte by byte, shard by shard, checksums verified. In place, the new
files stand beside the old and the metadata name ArrayRecord as an alternative format,
as TFDS's own `convert_format` does; the TFRecord files may be deleted afterwards only
if nothing else reads them.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtj.data.prepare import tfds_info, tfds_writer
from rtj.data.prepare.array_record_file import (
    Record,
    ShardFacts,
    check_space,
    disk_errors,
    replace_text,
    write_shard,
)
from rtj.data.prepare.convert import report
from rtj.data.prepare.image_progress import ImageProgress
from rtj.data.prepare.ordered_map import ordered_map
from rtj.data.prepare.shard_ledger import LEDGER, Ledger, open_ledger
from rtj.data.prepare.target import new_target
from rtj.data.prepare.tfrecord import read_records
from rtj.errors import DataError

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


@dataclass(frozen=True)
class _Shard:
    """A TFRecord file, what its ArrayRecord file is called, and its examples."""

    split: str
    path: Path
    file: str
    examples: int


def copy_in_place(folder: Path, *, workers: int) -> dict[str, Any]:
    """Adds ArrayRecord files to a prepared data set of TFRecord files.

    A call that ends early keeps its finished shards, and the same call goes on.

    Args:
        folder: of a version, with dataset_info.json.
        workers: shards at a time.

    Returns: as `convert.convert`.

    Raises:
        ConfigError: the folder cannot be written.
        DataError: it is no TFDS data set of TFRecord files, a file is damaged (names
            it and the place), the disk is full.
    """
    info = _tfrecord_info(folder)
    shards = _shards(folder, info["name"], own_names=True)
    plan = _plan(folder, shards)
    with open_ledger(folder, plan, redo=folder / LEDGER) as ledger:
        done = _copy(ledger, shards, workers)
        main, *others = tfds_info.file_formats(info)
        others.append(tfds_writer.FILE_FORMAT)
        info |= {"fileFormat": main, "alternativeFileFormats": others}
        replace_text(folder / tfds_info.FILE, json.dumps(info, indent=2))
    config = info.get("configName")
    name = f"{info['name']}/{config}" if config else info["name"]
    return report(name, folder, done)


def copy_as(folder: Path, name: str, data_dir: str, *, workers: int) -> dict[str, Any]:
    """Writes `DATA_DIR/NAME/VERSION`, ArrayRecord only; else as `copy_in_place`.

    Raises ConfigError, too, if the name is not allowed or taken.
    """
    info = _tfrecord_info(folder)
    target = new_target(name, data_dir, info["version"])
    if info["version"] != target.version:
        raise DataError(
            f"{folder} is version {info['version']}; as {name} it must be "
            f"{target.version}: choose another --name"
        )
    shards = _shards(folder, name, own_names=False)
    with open_ledger(
        target.under_way, _plan(folder, shards), redo=target.under_way
    ) as ledger:
        done = _copy(ledger, shards, workers)
        with disk_errors(target.under_way):
            _copy_metadata(folder, target.under_way)
        info |= {"name": name, "fileFormat": tfds_writer.FILE_FORMAT}
        for key in ("alternativeFileFormats", "configName", "configDescription"):
            info.pop(key, None)
        for split in info["splits"]:
            split["filepathTemplate"] = _TEMPLATE
        replace_text(target.under_way / tfds_info.FILE, json.dumps(info, indent=2))
    target.publish()
    return report(name, target.folder, done)


def _tfrecord_info(folder: Path) -> dict[str, Any]:
    """dataset_info.json of a data set that has TFRecord files and no ArrayRecord."""
    info = tfds_info.read_info(folder)
    formats = tfds_info.file_formats(info)
    if tfds_writer.FILE_FORMAT in formats:
        raise DataError(f"{folder} has ArrayRecord files already; nothing to convert")
    if "tfrecord" not in formats:
        raise DataError(f"{folder} holds {', '.join(formats)}; allowed is tfrecord")
    return info


def _shards(folder: Path, name: str, *, own_names: bool) -> list[_Shard]:
    """The shards of all splits; `own_names` keeps the data set's form of file names."""
    import tensorflow_datasets as tfds

    shards = []
    for split, info in tfds.builder_from_directory(folder).info.splits.items():
        template = info.filename_template.replace(
            filetype_suffix=tfds_writer.FILE_FORMAT
        )
        files = (
            [path.name for path in template.sharded_filepaths(info.num_shards)]
            if own_names
            else tfds_writer.shard_names(name, split, info.num_shards)
        )
        tfrecords = template.replace(filetype_suffix="tfrecord").sharded_filepaths(
            info.num_shards
        )
        for path, file, examples in zip(
            tfrecords, files, info.shard_lengths, strict=True
        ):
            if not path.exists():
                raise DataError(f"{path} is missing; copy or prepare it again")
            if path.name == file:
                raise DataError(
                    f"{folder}: its file names do not say their format ({file}); "
                    "convert it into a new folder with --name=NAME"
                )
            shards.append(_Shard(split, Path(path), file, examples))
    return shards


def _plan(folder: Path, shards: Sequence[_Shard]) -> dict[str, Any]:
    return {
        "source": f"tfrecord:{folder.absolute()}",
        "files": {
            shard.path.name: [shard.path.stat().st_size, shard.examples]
            for shard in shards
        },
    }


def _copy(
    ledger: Ledger, shards: Sequence[_Shard], workers: int
) -> Mapping[str, list[ShardFacts]]:
    """Copies what the ledger lacks; returns the shards of each split."""
    missing = [shard for shard in shards if shard.file not in ledger.finished]
    check_space(ledger.folder, sum(shard.path.stat().st_size for shard in missing))
    done = sum(facts.examples for facts in ledger.finished.values())
    total = sum(shard.examples for shard in shards)
    progress = ImageProgress("convert", total, done)

    def copy(shard: _Shard) -> ShardFacts:
        return write_shard(
            ledger.folder / shard.file, _records(shard.path), shard.examples
        )

    copied = ordered_map(copy, missing, workers)
    for shard, facts in zip(missing, copied, strict=True):
        ledger.note(shard.file, facts)
        progress.add(facts.examples)
    progress.close()
    by_split: dict[str, list[ShardFacts]] = {}
    for shard in shards:
        by_split.setdefault(shard.split, []).append(ledger.finished[shard.file])
    return by_split


def _records(path: Path) -> Iterator[Record]:
    return (Record(data) for data in read_records(path))


def _copy_metadata(folder: Path, target: Path) -> None:
    """All small files: features, label names, licence; not the records."""
    from tensorflow_datasets.core.file_adapters import is_example_file

    for path in folder.iterdir():
        ours = path.name in (tfds_info.FILE, LEDGER) or path.name.startswith(".")
        if path.is_file() and not ours and not is_example_file(path.name):
            shutil.copyfile(path, target / path.name)
