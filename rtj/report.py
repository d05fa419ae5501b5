"""Runs beside the paper's tables, as a page.

    python -m rtj.report D... --out=R [--json]

D is the workdir of a run, or a folder of workdirs, as a sweep leaves it. Writes
R/report.html, one file that needs nothing else, R/report.md and its pictures in
R/figures. A table is shown if one of its rows was run; a folder that cannot be read
is named in the report. Needs the extra `plot`.

With --json the last line on stdout is one object: `out`, `runs` and `unreadable`
(how many) and `tables` (numbers of the paper's tables). Exit codes: 0 done, 2 bad
flags or no matplotlib, 5 no run could be read.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rtj.study.build import write_report
from rtj.study.document import plural
from rtj.tool import Parser, run_tool


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m rtj.report", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="D")
    parser.add_argument("--out", required=True, type=Path, metavar="R")
    parser.add_argument("--json", action="store_true")
    return parser


def _command(args: argparse.Namespace) -> int:
    report = write_report(args.folders, args.out)
    for entry in report.unreadable:
        print(f"rtj: {entry.problem}", file=sys.stderr)
    if args.json:
        summary = {
            "out": str(args.out),
            "runs": report.runs,
            "unreadable": len(report.unreadable),
            "tables": list(report.tables),
        }
        print(json.dumps(summary), flush=True)
    else:
        print(f"{plural(report.runs, 'run')} in {args.out / 'report.html'}")
    return 0


def run(argv: Sequence[str]) -> int:
    """One command, from its arguments to its exit code."""
    return run_tool(_command, _parser(), argv)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
