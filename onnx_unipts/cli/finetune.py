"""onnx-unipts finetune: train at the sparsity of each layer that a search found."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from onnx_unipts.cli.arguments import (
    DataArguments,
    MethodArguments,
    RunArguments,
    ShowArguments,
    StorageArguments,
    WritingArguments,
)
from onnx_unipts.cli.command import COMMAND, Command, examples
from onnx_unipts.cli.defaults import from_elsewhere
from onnx_unipts.cli.options import compression_options, model_argument

__all__ = ["finetune"]

EXAMPLES = examples(
    (
        "Search, then train",
        "onnx-unipts search model.onnx --sparsity 0.9 --data images/\n"
        "  onnx-unipts finetune model.onnx --data images/",
    ),
    (
        "At an allocation of another run, or one's own",
        "onnx-unipts finetune model.onnx --data images/ --allocation allocation.json",
    ),
)


class _Finetune(Command):
    """Takes a file as the allocation: an allocator is a standing choice for other commands."""

    def forget(self, ctx: click.Context) -> None:
        """Forget an allocation that is no file, too."""
        super().forget(ctx)
        allocation = ctx.params["allocation"]
        if from_elsewhere(ctx, "allocation") and not Path(allocation).is_file():
            ctx.params["allocation"] = None


@click.command(cls=_Finetune, short_help="Train at a searched sparsity.", epilog=EXAMPLES)
@model_argument()
@compression_options
@click.pass_context
def finetune(
    ctx: click.Context,
    model: Path,
    output: Path | None,
    file_format: str | None,
    eval_data: str | None,
    storage: StorageArguments,
    writing: WritingArguments,
    show: ShowArguments,
    method: MethodArguments,
    inputs: DataArguments,
    run: RunArguments,
) -> None:
    """Train MODEL at the sparsity of each layer that a search found, verify, write.

    What compress does after its search. The allocation is that in the run directory, or the file
    that --allocation names, and the sparsity the one that it was found for.
    """
    from onnx_unipts.environment import check_training_runtime

    check_training_runtime()
    recipe = method.load(sparsity_needed=False).with_settings(inputs.settings())

    import onnx_unipts
    from onnx_unipts.report.terminal import print_plan, print_report

    result = onnx_unipts.finetune(
        model,
        allocation=method.allocation,
        output=output,
        data=inputs.data,
        eval_data=eval_data,
        recipe=recipe,
        input_shapes=inputs.input_shapes(),
        format=file_format,
        progress=show.progress(),
        command=ctx.meta[COMMAND],
        **asdict(run),
        **asdict(storage),
        **asdict(writing),
    )
    show.result(result.report, print_plan if run.dry_run else print_report)
