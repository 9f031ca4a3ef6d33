"""onnx-unipts evaluate: compare a sparse model with its dense original."""

from __future__ import annotations

from pathlib import Path

import click

from onnx_unipts.cli.arguments import DataArguments, ShowArguments, losses_of
from onnx_unipts.cli.command import Command, examples, option
from onnx_unipts.cli.options import pair_options

__all__ = ["evaluate"]

EXAMPLES = examples(
    (
        "Accuracy and agreement on labelled images",
        "onnx-unipts evaluate model.onnx model.sparse.onnx --data test/ \\\n"
        "      --mean .485,.456,.406 --std .229,.224,.225",
    ),
)


@click.command(
    cls=Command, short_help="Compare a sparse model with its dense original.", epilog=EXAMPLES
)
@pair_options
@option(
    "--num-samples",
    type=click.IntRange(1),
    metavar="N",
    heading="Data",
    help="Samples to use; else all.",
)
@option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    heading="Data",
    help="Random seed of the samples.",
)
@option(
    "--loss",
    multiple=True,
    metavar="OUTPUT=kl|mse",
    heading="Data",
    help="How an output is compared, if not as its shape says; may be repeated.",
)
def evaluate(
    dense: Path,
    sparse: Path,
    num_samples: int | None,
    seed: int,
    loss: tuple[str, ...],
    show: ShowArguments,
    inputs: DataArguments,
) -> None:
    """Compare SPARSE with DENSE: sparsity, size, divergence, agreement, accuracy with labels."""
    from onnx_unipts.environment import check_training_runtime

    check_training_runtime()
    keywords = inputs.keywords()

    import onnx_unipts
    from onnx_unipts.report.terminal import print_evaluation

    document = onnx_unipts.evaluate(
        dense,
        sparse,
        num_samples=num_samples,
        seed=seed,
        losses=losses_of(loss),
        progress=show.progress(),
        **keywords,
    )
    show.result(document, print_evaluation)
