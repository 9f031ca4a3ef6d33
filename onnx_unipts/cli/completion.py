"""onnx-unipts completion: what makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from onnx_unipts.cli.command import Command, examples

__all__ = ["completion"]

EXAMPLES = examples(
    ("For bash", "onnx-unipts completion bash >> ~/.bashrc"),
    ("For zsh", "onnx-unipts completion zsh >> ~/.zshrc"),
    ("For fish", "onnx-unipts completion fish > ~/.config/fish/completions/onnx-unipts.fish"),
)


@click.command(cls=Command, short_help="Print a shell's completion script.", epilog=EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options and files."""
    made = get_completion_class(shell)
    assert made is not None
    root = ctx.find_root()
    script = made(root.command, {}, "onnx-unipts", "_ONNX_UNIPTS_COMPLETE")
    click.echo(script.source_template % script.source_vars())
