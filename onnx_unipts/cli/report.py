"""onnx-unipts report: the page of a finished run."""

from __future__ import annotations

from pathlib import Path

import click

from onnx_unipts.cli.arguments import ShowArguments
from onnx_unipts.cli.command import Command, examples
from onnx_unipts.cli.options import show_options

__all__ = ["report"]

EXAMPLES = examples(
    ("Show a run again, and rebuild its report.html", "onnx-unipts report model.sparse.run"),
)


@click.command(cls=Command, short_help="Show a finished run, and write its page.", epilog=EXAMPLES)
@click.argument("run_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@show_options
def report(run_dir: Path, show: ShowArguments) -> None:
    """Show the report of the run in RUN_DIR, and write it as RUN_DIR/report.html.

    The page is one file that opens offline.
    """
    from onnx_unipts.graph.errors import OnnxUniptsError
    from onnx_unipts.report.runs import read_report, write_report_page
    from onnx_unipts.report.terminal import print_report

    show.result(read_report(run_dir), print_report)
    try:
        show.progress().message(f"page: {write_report_page(run_dir)}")
    except OnnxUniptsError as error:
        show.progress().warning(f"the page stays as it is: {error}")
