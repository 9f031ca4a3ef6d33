"""onnx-unipts search: find the sparsity of each layer, and stop there."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from onnx_unipts.cli.arguments import DataArguments, MethodArguments, RunArguments, ShowArguments
from onnx_unipts.cli.command import COMMAND, Command, examples
from onnx_unipts.cli.options import (
    data_options,
    method_options,
    model_argument,
    run_options,
    show_options,
)

__all__ = ["search"]

EXAMPLES = examples(
    ("Search, then train", "onnx-unipts search model.onnx --sparsity 0.9 --data images/"),
    (
        "... at the allocation that was found",
        "onnx-unipts finetune model.onnx --data images/",
    ),
)


@click.command(
    cls=Command, short_help="Find the sparsity of each layer, and stop there.", epilog=EXAMPLES
)
@model_argument()
@show_options
@method_options
@data_options
@run_options
@click.pass_context
def search(
    ctx: click.Context,
    model: Path,
    show: ShowArguments,
    method: MethodArguments,
    inputs: DataArguments,
    run: RunArguments,
) -> None:
    """Search the sparsity of each layer of MODEL and write RUN_DIR/allocation.json.

    The run directory is the one that compress and finetune would use. Both go on from the
    allocation that was found: finetune with any options, compress --resume with the same.
    """
    from onnx_unipts.environment import check_training_runtime

    check_training_runtime()
    recipe = method.load().with_settings(inputs.settings())
    input_shapes = inputs.input_shapes()

    import onnx_unipts
    from onnx_unipts.report.terminal import print_plan, print_search

    result = onnx_unipts.search(
        model,
        data=inputs.data,
        recipe=recipe,
        input_shapes=input_shapes,
        progress=show.progress(),
        command=ctx.meta[COMMAND],
        **asdict(run),
    )
    show.result(result.report, print_plan if run.dry_run else print_search)
