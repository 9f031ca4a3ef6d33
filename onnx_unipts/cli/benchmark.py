"""onnx-unipts benchmark: what a sparse model gains beside its dense original."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from onnx_unipts.cli.arguments import DataArguments, ShowArguments
from onnx_unipts.cli.command import Command, examples, option
from onnx_unipts.cli.options import pair_options

__all__ = ["benchmark"]

EXAMPLES = examples(
    ("Size, load time, latency and memory", "onnx-unipts benchmark model.onnx model.sparse.onnx"),
    (
        "As a server would run it",
        "onnx-unipts benchmark model.onnx model.sparse.onnx --threads 8 --batch-size 32",
    ),
)

_count = functools.partial(
    option, type=click.IntRange(1), default=1, show_default=True, metavar="N", heading="Run"
)


@click.command(
    cls=Command, short_help="Measure size, speed and memory of two models.", epilog=EXAMPLES
)
@pair_options
@_count("--threads", help="Threads of the runtime.")
@_count("--batch-size", help="Samples per run, where the model takes any number.")
@option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=10,
    show_default=True,
    metavar="X",
    heading="Run",
    help="About how long to measure, half of it loading, half of it running.",
)
def benchmark(
    dense: Path,
    sparse: Path,
    threads: int,
    batch_size: int,
    seconds: float,
    show: ShowArguments,
    inputs: DataArguments,
) -> None:
    """Measure SPARSE beside DENSE, in turn: size, load time, latency, peak memory."""
    from onnx_unipts.environment import check_training_runtime

    check_training_runtime()
    keywords = inputs.keywords()

    import onnx_unipts
    from onnx_unipts.report.terminal import print_benchmark

    document = onnx_unipts.benchmark(
        dense,
        sparse,
        threads=threads,
        batch_size=batch_size,
        seconds=seconds,
        **keywords,
    )
    show.result(document, print_benchmark)
