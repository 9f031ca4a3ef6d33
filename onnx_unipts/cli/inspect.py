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
    from onnx_unipts.graph.model import load_model
    from onnx_unipts.graph.prunable import find_prunable
    from onnx_unipts.graph.sequence_inputs import declared_inputs
    from onnx_unipts.report import inspection_document
    from onnx_unipts.report.terminal import print_inspection

    graph = load_model(model)
    found = find_prunable(graph, weights.exclude, weights.include, weights.only)
    document = inspection_document(model, found, declared_inputs(graph), list(graph.graph.outputs))
    show.result(document, print_inspection)
