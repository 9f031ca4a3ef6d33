"""onnx-unipts inspect: list the weights of a model and what can be pruned of them."""

from __future__ import annotations

from pathlib import Path

import click

from onnx_unipts.cli.arguments import ShowArguments, WeightArguments
from onnx_unipts.cli.command import Command, examples
from onnx_unipts.cli.options import model_argument, show_options, weight_options

__all__ = ["inspect"]

EXAMPLES = examples(
    ("What would be pruned", "onnx-unipts inspect model.onnx"),
    (
        "The same for a script",
        "onnx-unipts inspect model.onnx --json | jq '.weights[] | select(.pruned) | .name'",
    ),
)


@click.command(cls=Command, short_help="List the weights of a model.", epilog=EXAMPLES)
@model_argument()
@weight_options
@show_options
def inspect(model: Path, weights: WeightArguments, show: ShowArguments) -> None:
    """List the weights of MODEL: operator, shape, whether they are pruned, and if not, why."""
    import onnx_unipts
    from onnx_unipts.report.terminal import print_inspection

    document = onnx_unipts.inspect(
        model, exclude=weights.exclude, include=weights.include, only=weights.only
    )
    show.result(document, print_inspection)
