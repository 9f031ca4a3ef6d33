"""onnx-unipts doctor: check the environment, and say how to mend it."""

from __future__ import annotations

import click

from onnx_unipts.cli.arguments import ShowArguments
from onnx_unipts.cli.command import Command
from onnx_unipts.cli.options import show_options
from onnx_unipts.graph.errors import BrokenEnvironmentError

__all__ = ["doctor"]


@click.command(cls=Command, short_help="Check the environment.")
@show_options
@click.pass_context
def doctor(ctx: click.Context, show: ShowArguments) -> None:
    """Show versions and machine, find a broken onnxruntime, and print what mends it.

    Exit code 3 if there is a problem.
    """
    from onnx_unipts.environment import describe
    from onnx_unipts.report.terminal import print_environment

    environment = describe()
    show.result(environment, print_environment)
    if environment["problems"]:
        ctx.exit(BrokenEnvironmentError.exit_code)
