"""The command line: one file per command, and here the group with its exit codes."""

from __future__ import annotations

import contextlib
import errno
import logging
import shlex
import signal
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import click

from onnx_unipts.cli.benchmark import benchmark
from onnx_unipts.cli.command import COMMAND
from onnx_unipts.cli.compare import compare
from onnx_unipts.cli.completion import completion
from onnx_unipts.cli.compress import compress
from onnx_unipts.cli.defaults import project_defaults
from onnx_unipts.cli.doctor import doctor
from onnx_unipts.cli.evaluate import evaluate
from onnx_unipts.cli.finetune import finetune
from onnx_unipts.cli.inspect import inspect
from onnx_unipts.cli.options import VERBOSE
from onnx_unipts.cli.pack import pack
from onnx_unipts.cli.recipes import recipes
from onnx_unipts.cli.report import report
from onnx_unipts.cli.search import search
from onnx_unipts.cli.unpack import unpack
from onnx_unipts.graph.errors import OnnxUniptsError

__all__ = ["main"]

# Exit codes of commands that a signal ends: 128 and its number, as shells have them.
BY_SIGNAL = 128


class _Ended(KeyboardInterrupt):
    """A signal asks to end: as an interrupt does, with its own number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = signal.Signals(number)


@contextlib.contextmanager
def _ending_as_interrupted() -> Iterator[None]:
    """Let what ends a process from outside leave nothing half done behind, either."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: object) -> None:
        raise _Ended(number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [signal.Signals[name] for name in names]
    # Ignored by whoever started this, as nohup does: it stays so.
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) is signal.SIG_DFL}
    for number in before:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Commands(click.Group):
    """Turns whatever a command raises into one line on standard error and an exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember the command line for the report."""
        ctx.meta[COMMAND] = shlex.join(["onnx-unipts", *args])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            ctx.default_map = project_defaults(self.commands)
            # What it thinks of a file is no news to its user, and comes at every copy of the model.
            logging.getLogger("onnx_ir").setLevel(logging.ERROR)
            with _ending_as_interrupted():
                return super().invoke(ctx)
        except (click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt as error:
            number = error.number if isinstance(error, _Ended) else signal.SIGINT
            how = "interrupted" if number == signal.SIGINT else f"ended by {number.name}"
            _fail(ctx, BY_SIGNAL + number, f"{how}{self._resume_hint(ctx)}")
        except click.ClickException as error:
            usage = isinstance(error, click.UsageError) and error.ctx is not None
            hint = f" (see '{error.ctx.command_path} -h')" if usage else ""  # type: ignore[attr-defined]
            _fail(ctx, error.exit_code, error.format_message().rstrip(".") + hint)
        except OnnxUniptsError as error:
            _fail(ctx, error.exit_code, str(error))
        except Exception as error:
            # A reader that went away, as in `| head`: click ends quietly.
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise
            again = "" if ctx.meta.get(VERBOSE) else "; run again with -v for the traceback"
            _fail(ctx, 1, f"{type(error).__name__}: {error}{again}")

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name the commands in the order in which a user needs them."""
        return list(self.commands)

    def _resume_hint(self, ctx: click.Context) -> str:
        command = self.commands.get(ctx.invoked_subcommand or "")
        resumable = command is not None and any(p.name == "resume" for p in command.params)
        return "; run again with --resume to go on" if resumable else ""


def _fail(ctx: click.Context, code: int, message: str) -> None:
    if ctx.meta.get(VERBOSE):
        traceback.print_exc()
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    ctx.exit(code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="onnx-unipts", prog_name="onnx-unipts")
def main() -> None:
    """Make a trained ONNX model sparse, with a handful of inputs and no training framework."""


for _command in (
    compress,
    inspect,
    evaluate,
    benchmark,
    search,
    finetune,
    pack,
    unpack,
    report,
    compare,
    recipes,
    doctor,
    completion,
):
    main.add_command(_command)
