"""Weights out: timm-named safetensors, a StableHLO program, or ONNX.

    python -m rtj.export (--checkpoint=D | --weights=W [--model=NAME])
        --format=safetensors|stablehlo|onnx [--input=uint8|float32] [--force] OUT

A safetensors file carries what is needed to use it: architecture, class count,
input size, crop, interpolation, mean, std, class names, rtj's version. StableHLO
and ONNX programs take a batch of images of one size and give float32 logits; how
to run the first is in `rtj.stablehlo`; for the second see `rtj.onnx_program`.

OUT appears whole or not at all. Exit codes: 0 done, 2 bad flags (an OUT that
exists, without --force), 6 weights cannot be read or OUT cannot be written.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rtj.atomic_file import check_new_file, new_file
from rtj.serving import Network, open_network
from rtj.tool import Parser, add_network_flags, run_tool
from rtj.weights.metadata import describe
from rtj.weights.names import to_torch
from rtj.weights.safetensors_file import write_safetensors

FORMATS = ("safetensors", "stablehlo", "onnx")


def export_network(
    network: Network,
    out: str | Path,
    *,
    format: str,
    input_type: Literal["uint8", "float32"] = "uint8",
    force: bool = False,
) -> None:
    """Write `network` to `out`.

    Args:
        format: one of `FORMATS`.
        input_type: `uint8` or `float32`, of the programs; see `to_stablehlo`.
        force: overwrite `out`.

    Raises:
        ConfigError: `out` exists or cannot be a file, a package is missing.
        CheckpointError: the file cannot be written.
    """
    out = Path(out)
    check_new_file(out, force=force)
    with new_file(out, force=force) as partial:
        if format == "safetensors":
            about = describe(network.model, network.preprocess, network.class_names)
            tensors = to_torch(network.name, network.variables)
            write_safetensors(partial, tensors, about)
        elif format == "stablehlo":
            from rtj.stablehlo import to_stablehlo

            partial.write_bytes(to_stablehlo(network, input_type=input_type))
        else:
            from rtj.onnx_program import to_onnx

            partial.write_bytes(to_onnx(network, input_type=input_type))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m rtj.export", description=__doc__)
    add_network_flags(parser)
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--input", default="uint8", choices=("uint8", "float32"))
    parser.add_argument("--force", action="store_true", help="overwrite OUT")
    parser.add_argument("out", metavar="OUT")
    return parser


def _command(args: argparse.Namespace) -> int:
    check_new_file(Path(args.out), force=args.force)
    network = open_network(
        weights=args.weights,
        checkpoint=args.checkpoint,
        model=args.model,
        classes=args.classes,
    )
    export_network(
        network,
        args.out,
        format=args.format,
        input_type=args.input,
        force=args.force,
    )
    print(f"{args.out}: {network.name} as {args.format}")
    print(f"images ({network.preprocess_from}): {network.preprocess.describe()}")
    return 0


def run(argv: Sequence[str]) -> int:
    """One command, from its arguments to its exit code."""
    return run_tool(_command, _parser(), argv)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
