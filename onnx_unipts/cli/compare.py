"""onnx-unipts compare: several finished runs side by side."""

from __future__ import annotations

from pathlib import Path

import click

from onnx_unipts.cli.arguments import ShowArguments
from onnx_unipts.cli.command import Command, examples, option
from onnx_unipts.cli.options import show_options

__all__ = ["compare"]

EXAMPLES = examples(
    ("Two runs on the terminal", "onnx-unipts compare first.run second.run"),
    ("All runs of a directory, as a page", "onnx-unipts compare *.run --html runs.html"),
)


@click.command(cls=Command, short_help="Put finished runs side by side.", epilog=EXAMPLES)
@click.argument(
    "run_dirs",
    metavar="RUN_DIR...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@option(
    "--html",
    type=click.Path(path_type=Path),
    metavar="FILE",
    heading="Output",
    help="Also write a page that opens offline, with the curves.",
)
@show_options
def compare(run_dirs: tuple[Path, ...], html: Path | None, show: ShowArguments) -> None:
    """Put the runs in RUN_DIR... side by side: results, sparsity by layer, settings that differ."""
    from onnx_unipts.output_file import check_apart, check_output_file
    from onnx_unipts.report.comparison import compare_runs, comparison_page
    from onnx_unipts.report.runs import check_page_name, write_page
    from onnx_unipts.report.terminal import print_comparison
    from onnx_unipts.run_files import PAGE

    if html is not None:
        check_output_file(html, "--html")
        check_page_name(html)
        pages = {f"page of {each}": each / PAGE for each in run_dirs}
        check_apart({"--html": html}, pages)
    comparison = compare_runs(run_dirs)
    if html is not None:
        write_page(html, comparison_page(comparison))
    show.result(comparison, print_comparison)
