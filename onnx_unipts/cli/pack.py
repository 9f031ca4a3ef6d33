"""onnx-unipts pack: store the zeros of any model small."""

from __future__ import annotations

from pathlib import Path

import click

from onnx_unipts.cli.arguments import ShowArguments, StorageArguments
from onnx_unipts.cli.command import Command, examples
from onnx_unipts.cli.options import model_argument, output_option, show_options, storage_options

__all__ = ["pack"]

EXAMPLES = examples(
    ("A model with zeros, whoever pruned it", "onnx-unipts pack pruned.onnx"),
    (
        "As small as it gets, values rounded to half precision",
        "onnx-unipts pack pruned.onnx -o small.onnx --pack smallest --values float16",
    ),
)


@click.command(cls=Command, short_help="Store a model's zeros small.", epilog=EXAMPLES)
@model_argument()
@output_option("The packed model; default: <model stem>.packed.onnx beside the model.")
@storage_options
@show_options
def pack(model: Path, output: Path | None, storage: StorageArguments, show: ShowArguments) -> None:
    """Pack the weights of MODEL: runtimes unpack them by standard operators when they load it."""
    from onnx_unipts.conversion import pack as pack_file
    from onnx_unipts.report.terminal import print_packing

    document = pack_file(model, output, pack=storage.pack, values=storage.values)
    show.result(document, print_packing)
