"""One contestant's turn of `rtj.bench step`, in a process of its own.

The order comes on stdin: `entry`, 'module:function' of `Work -> Running`, `modes`,
`seconds`, and the fields of `Work`.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

from rtj.bench.child import load_entry
from rtj.bench.step_work import Running, Work, rates


def main() -> None:
    """Prints the rates, `bytes_accessed` and `facts` of each mode, or `error`."""
    order = json.loads(sys.stdin.read())
    entry, modes = load_entry(order.pop("entry")), order.pop("modes")
    seconds = order.pop("seconds")
    found = {mode: _turn(entry, Work(mode=mode, **order), seconds) for mode in modes}
    print(json.dumps(found))


def _turn(
    entry: Callable[[Work], Running], work: Work, seconds: float
) -> dict[str, Any]:
    try:
        running = entry(work)
        return {
            **rates(running, work.batch, seconds),
            "bytes_accessed": running.bytes_accessed,
            "facts": running.facts,
        }
    # Whatever a library raises, most likely for want of memory, belongs in the table.
    except Exception as error:
        lines = str(error).strip().splitlines()
        return {"error": f"{type(error).__name__}: {(lines or [''])[0]}"}


if __name__ == "__main__":
    main()
