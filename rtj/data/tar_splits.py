"""Which tar files are the shards of which split."""

import re
from pathlib import Path

from rtj.data.on_disk import HELD_OUT, list_folder
from rtj.errors import DataError

_TAR = re.compile(r".*\.(tar|tar\.(gz|bz2|xz|zst)|tgz)", re.IGNORECASE)
_IN_FILE_NAMES = {"train", *HELD_OUT}


def find_shards(root: Path, name: str) -> dict[str, list[Path]]:
    """The shards of each split, sorted: `root/SPLIT/*.tar`, or files in `root`.

    Files in `root` belong to the split whose name, train, val, validation or test,
    stands in theirs as a word: `imagenet1k-train-0000.tar`.

    Raises:
        DataError: a file names two splits, or a split has shards in both places.
    """
    folders, files = list_folder(root)
    found: dict[str, list[Path]] = {}
    for file in files:
        splits = _IN_FILE_NAMES & set(re.findall("[a-z]+", file.lower()))
        if not _TAR.fullmatch(file) or not splits:
            continue
        if len(splits) > 1:
            raise DataError(
                f"{name}: {root / file} names {len(splits)} splits, "
                f"{' and '.join(sorted(splits))}; rename it, or put it into a folder "
                "of its split's name"
            )
        found.setdefault(splits.pop(), []).append(root / file)
    for folder in folders:
        inside = [f for f in list_folder(root / folder)[1] if _TAR.fullmatch(f)]
        if inside and folder in found:
            raise DataError(
                f"{name}: shards of {folder} are in {root / folder} and beside it, "
                f"such as {found[folder][0].name}; put all of them into one place"
            )
        if inside:
            found[folder] = [root / folder / file for file in inside]
    return found


def check_uncompressed(shards: list[Path], name: str) -> list[Path]:
    """`shards` without the compressed ones whose unpacked file is there as well.

    Raises DataError for a compressed one alone: no reading at an offset in those.
    """
    plain = {path for path in shards if path.name.lower().endswith(".tar")}
    for path in shards:
        stem = path.name.rsplit(".", 1)[0].removesuffix(".tar")
        if path not in plain and path.with_name(f"{stem}.tar") not in plain:
            raise DataError(compressed(path, name))
    return sorted(plain)


def compressed(path: Path, name: str) -> str:
    """What is said of a compressed shard."""
    return (
        f"{name}: {path} is compressed, and examples are read from the middle of a "
        "shard; unpack it to a plain .tar, with gunzip, bunzip2, unxz or unzstd"
    )
