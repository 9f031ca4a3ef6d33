"""Recipes: the schema of a compression method's settings, read from YAML, checked key by key."""

from onnx_unipts.recipe.files import list_recipes, load_recipe
from onnx_unipts.recipe.schema import Recipe
from onnx_unipts.recipe.sections import Allocation, Preprocessing, Search, Synthetic, Training
from onnx_unipts.recipe.settings import parse_settings

__all__ = [
    "Allocation",
    "Preprocessing",
    "Recipe",
    "Search",
    "Synthetic",
    "Training",
    "list_recipes",
    "load_recipe",
    "parse_settings",
]
