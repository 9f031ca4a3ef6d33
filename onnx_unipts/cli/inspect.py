"""onnx-unipts inspect: list the weights of a model and what can be pruned of them."""

from __future__ import annotations

from pathlib import Path

import click

from onnx_unipts.cli.options import (
    Command,
    ShowArguments,
    examples,
    model_argument,
    option,
    show_options,
)

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
@option(
    "--exclude",
    multiple=True,
    metavar="REGEX",
    heading="Method",
    help="Leave the weights whose name matches; may be repeated.",
)
@option(
    "--include",
    multiple=True,
    type=click.Choice(["optional", "quantised", "recurrent"]),
    heading="Method",
    help="Prune these kinds of weights, too; may be repeated.",
)
@option(
    "--only",
    multiple=True,
    metavar="REGEX",
    heading="Method",
    help="Leave all weights but those whose name matches; may be repeated.",
)
@show_options
def inspect(
    model: Path,
    exclude: tuple[str, ...],
    include: tuple[str, ...],
    only: tuple[str, ...],
    show: ShowArguments,
) -> None:
    """List the weights of MODEL: operator, shape, whether they are pruned, and if not, why."""
    from onnx_unipts.graph.model import load_model
    from onnx_unipts.graph.prunable import find_prunable
    from onnx_unipts.graph.sequence_inputs import declared_inputs
    from onnx_unipts.report import inspection_document
    from onnx_unipts.report.terminal import print_inspection

    graph = load_model(model)
    weights = find_prunable(graph, exclude, include, only)
    document = inspection_document(
        model, weights, declared_inputs(graph), list(graph.graph.outputs)
    )
    show.result(document, print_inspection)
