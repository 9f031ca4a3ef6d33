"""onnx-unipts compress: make a model sparse."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from onnx_unipts.cli.arguments import (
    DataArguments,
    MethodArguments,
    RunArguments,
    ShowArguments,
    StorageArguments,
    WritingArguments,
)
from onnx_unipts.cli.command import COMMAND, Command, Numbers, examples, option
from onnx_unipts.cli.options import compression_options, model_argument

__all__ = ["compress"]

EXAMPLES = examples(
    ("No data at hand", "onnx-unipts compress model.onnx --sparsity 0.9"),
    (
        "With images, one directory per class",
        "onnx-unipts compress model.onnx --sparsity 0.9 --data images/ \\\n"
        "      --mean .485,.456,.406 --std .229,.224,.225",
    ),
    ("Go on after an interruption", "onnx-unipts compress model.onnx --sparsity 0.9 --resume"),
    (
        "The highest sparsity that costs at most one percent of accuracy",
        "onnx-unipts compress model.onnx --target drop=1% --data images/ --eval-data test/",
    ),
    (
        "Several sparsities side by side",
        "onnx-unipts compress model.onnx --sweep 0.5,0.7,0.9 --data images/",
    ),
    (
        "The method as published, with a smaller budget",
        "onnx-unipts compress model.onnx --sparsity 0.9 --data images/ \\\n"
        "      --recipe unipts-paper --set allocation.search.generations=5",
    ),
)


@click.command(cls=Command, short_help="Make a model sparse.", epilog=EXAMPLES)
@model_argument()
@compression_options
@option(
    "--target",
    metavar="GOAL",
    heading="Method",
    help="Search the sparsity instead: drop=1% is the highest that keeps accuracy (or agreement, "
    "without labels) within it, size=2MB or zipped=2MB the lowest that makes the file as small. "
    "Takes several runs.",
)
@option(
    "--sweep",
    type=Numbers(),
    metavar="SHARE,SHARE,...",
    heading="Method",
    help="Make one model for each sparsity, with a table and a page that compare them.",
)
@click.pass_context
def compress(
    ctx: click.Context,
    model: Path,
    output: Path | None,
    file_format: str | None,
    target: str | None,
    sweep: tuple[float, ...] | None,
    eval_data: str | None,
    storage: StorageArguments,
    writing: WritingArguments,
    show: ShowArguments,
    method: MethodArguments,
    inputs: DataArguments,
    run: RunArguments,
) -> None:
    """Make MODEL sparse: search the sparsity of each layer, train, verify, write."""
    from onnx_unipts.environment import check_training_runtime
    from onnx_unipts.export import default_output
    from onnx_unipts.graph.errors import UsageError
    from onnx_unipts.output_file import check_output_file

    check_training_runtime()
    if sweep is not None and (target is not None or method.sparsity is not None):
        raise UsageError("--sweep gives the sparsities; leave out --sparsity and --target")
    recipe = method.load(sparsity_needed=target is None and sweep is None)
    recipe = recipe.with_settings(inputs.settings())
    output = check_output_file(output or default_output(model, file_format), "--output", model)
    if writing.save_recipe is not None:
        check_output_file(writing.save_recipe, "--save-recipe", model)
    input_shapes = inputs.input_shapes()

    import onnx_unipts
    from onnx_unipts.report.terminal import print_comparison, print_plan, print_plans, print_report

    arguments: dict[str, Any] = {
        "output": output,
        "data": inputs.data,
        "eval_data": eval_data,
        "recipe": recipe,
        "input_shapes": input_shapes,
        "format": file_format,
        "progress": show.progress(),
        "command": ctx.meta[COMMAND],
        **asdict(run),
        **asdict(storage),
        **asdict(writing),
    }
    if sweep is not None:
        swept = onnx_unipts.sweep(model, sweep, **arguments)
        if run.dry_run:
            show.result({"runs": [result.report for result in swept.results]}, print_plans)
            return
        show.result(swept.comparison, print_comparison)
        arguments["progress"].message(f"page: {swept.page}")
        return
    if target is not None:
        result = onnx_unipts.compress_to(model, target, sparsity=recipe.sparsity, **arguments)
    else:
        result = onnx_unipts.compress(model, **arguments)
    show.result(result.report, print_plan if run.dry_run else print_report)
