"""Where a converted data set goes: a folder under way, a rename at the end."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from rtj.data import tfds_source
from rtj.errors import ConfigError

IMAGENET = "imagenet2012"
_IMAGENET_VERSION = "5.1.0"  # of TFDS's own builder, whose features are ours
_NAME = re.compile("[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Target:
    """`ROOT/NAME/VERSION`, made as `ROOT/NAME/incomplete.rtj_VERSION`.

    TFDS and rtj look only into folders that are named as a version.
    """

    root: Path
    name: str
    version: str

    @property
    def folder(self) -> Path:
        return self.root / self.name / self.version

    @property
    def under_way(self) -> Path:
        return self.folder.with_name(f"incomplete.rtj_{self.version}")

    def publish(self) -> None:
        """The folder under way becomes the data set."""
        os.replace(self.under_way, self.folder)


def new_target(name: str, data_dir: str, version: str = "1.0.0") -> Target:
    """The place for a new data set.

    Args:
        name: of the data set; `imagenet2012` gets the version of TFDS's builder.
        data_dir: the TFDS data dir; '' means $TFDS_DATA_DIR or TFDS's default.

    Raises:
        ConfigError: TFDS does not allow the name, or a data set of this name exists.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"--name={name} is not allowed; allowed are small letters, digits and _, a "
            "letter first"
        )
    version = _IMAGENET_VERSION if name == IMAGENET else version
    root = Path(tfds_source.tfds_dir(data_dir)).absolute()
    target = Target(root, name, version)
    there = [str(path) for path in tfds_source.find_prepared(name, str(root))]
    if there:
        raise ConfigError(
            f"a finished data set is already there: {', '.join(there)}; delete or "
            "rename that folder, or choose another --name or --data_dir"
        )
    if target.folder.exists():
        raise ConfigError(
            f"{target.folder} exists and is not a finished data set; delete or rename "
            "it"
        )
    return target
