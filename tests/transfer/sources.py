"""Small sources of the transfer tasks, in memory."""

from collections.abc import Sequence
from typing import Any

from rtj.transfer.examples import unusable


class Examples:
    """Given examples, as dicts.

    Args:
        examples: what `source[i]` gives, but for the id; {'broken': True} raises.
        sizes: (height, width) of each, None for an image without one.

    `measured` is how often a size was asked for.
    """

    def __init__(
        self,
        examples: Sequence[dict[str, Any]],
        sizes: Sequence[tuple[int, int] | None],
        num_classes: int = 20,
        name: str = "shelf",
    ):
        self.name = name
        self.num_classes = num_classes
        self.class_names = tuple(f"class {k}" for k in range(num_classes))
        self._examples, self._sizes = examples, sizes
        self.measured = 0

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int, /) -> Any:
        if self._examples[index].get("broken"):
            raise unusable(f"photo-{index}", "it is broken")
        return self._examples[index] | {"id": f"photo-{index}"}

    def size(self, index: int, /) -> tuple[int, int]:
        self.measured += 1
        found = self._sizes[index]
        if found is None:
            raise unusable(f"photo-{index}", "it has no size")
        return found


def changed_examples(
    examples: Sequence[dict[str, Any]], sizes: Sequence[tuple[int, int]], changes: Any
) -> Examples:
    """Examples of `sizes` in turn.

    Args:
        changes: of some examples by index, keys to replace; `size` is what their source
            tells.
    """
    found = list(examples)
    told: list[Any] = [sizes[k % len(sizes)] for k in range(len(found))]
    for index, change in dict(changes).items():
        found[index] = found[index] | change
        told[index] = change.get("size", told[index])
    return Examples(found, told)
