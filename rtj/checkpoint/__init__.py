"""Checkpoints, and nothing else knows Orbax.

Orbax 0.12.8 writes them, asynchronously and whole or not at all. What it does not do is
here: a flipped bit in its array files mostly restores as a wrong number without a word,
a folder without content counts as the newest step, a save at or below the newest step
is left out in silence, and a failed one shows at the save after the next.

- `record`: what is kept beside a state, with a checksum of every leaf;
- `damage`: the newest checkpoint that is whole, and what counts as damage;
- `reading`: a whole state from it, the bad ones set aside; `variables`: weights alone;
- `writing`: saves, their errors, free space;
- `retention`: which old ones stay;
- `step_folders`: the folders, one a step.
"""

from rtj.checkpoint.reading import Restored, restore_newest
from rtj.checkpoint.record import FORMAT_VERSION, Evaluation
from rtj.checkpoint.retention import Retention
from rtj.checkpoint.step_folders import newest_step
from rtj.checkpoint.variables import newest_variables, restore_variables
from rtj.checkpoint.writing import Checkpointer

__all__ = [
    "FORMAT_VERSION",
    "Checkpointer",
    "Evaluation",
    "Restored",
    "Retention",
    "newest_step",
    "newest_variables",
    "restore_newest",
    "restore_variables",
]
