"""onnx-unipts recipes: list the recipes, or print one."""

from __future__ import annotations

import click

from onnx_unipts.cli.arguments import ShowArguments
from onnx_unipts.cli.command import Command, examples
from onnx_unipts.cli.options import show_options

__all__ = ["recipes"]

EXAMPLES = examples(
    ("Which recipes there are", "onnx-unipts recipes"),
    ("Start one of your own", "onnx-unipts recipes unipts > mine.yaml"),
)


@click.command(cls=Command, short_help="List the recipes, or print one.", epilog=EXAMPLES)
@click.argument("name", required=False)
@show_options
def recipes(name: str | None, show: ShowArguments) -> None:
    """List the recipes, or print the recipe NAME (or file) with all its settings as YAML."""
    from onnx_unipts.recipe import list_recipes, load_recipe
    from onnx_unipts.report.terminal import print_recipes

    if name is None:
        show.result(list_recipes(), print_recipes)
        return
    recipe = load_recipe(name)
    show.result(recipe.model_dump(mode="json"), lambda _: click.echo(recipe.to_yaml(), nl=False))
