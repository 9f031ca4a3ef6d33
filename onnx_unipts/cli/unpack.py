"""onnx-unipts unpack: turn a packed model back into a plain one."""

from __future__ import annotations

from pathlib import Path

import click

from onnx_unipts.cli.arguments import ShowArguments
from onnx_unipts.cli.command import Command, examples
from onnx_unipts.cli.options import model_argument, output_option, show_options

__all__ = ["unpack"]

EXAMPLES = examples(
    ("For a tool that wants plain weights", "onnx-unipts unpack model.sparse.onnx -o plain.onnx"),
)


@click.command(cls=Command, short_help="Make a packed model plain again.", epilog=EXAMPLES)
@model_argument()
@output_option("The plain model; default: <model stem>.unpacked.onnx beside the model.")
@show_options
def unpack(model: Path, output: Path | None, show: ShowArguments) -> None:
    """Turn the packed and sparse weights of MODEL into plain initializers, bit for bit."""
    from onnx_unipts.conversion import unpack as unpack_file
    from onnx_unipts.report.terminal import print_packing

    show.result(unpack_file(model, output), print_packing)
