"""The schema of a recipe: one compression method with all its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from onnx_unipts.graph.errors import UsageError
from onnx_unipts.recipe.sections import Allocation, Preprocessing, Section, Synthetic, Training
from onnx_unipts.recipe.validation import unknown_key, validated
from onnx_unipts.yaml_text import write_yaml

__all__ = ["Recipe"]


class Recipe(Section):
    """One compression method with all its settings."""

    name: str = Field(default="custom", min_length=1)
    description: str = ""
    sparsity: float | None = Field(
        default=None, gt=0, lt=1, description="Share of weights set to zero."
    )
    pattern: str = Field(
        default="unstructured",
        description="Which weights may be zero together: unstructured, N:M such as 2:4, blocks "
        "such as 4x1, or channel.",
    )
    eliminate_dead_channels: bool | None = Field(
        default=None,
        description="Remove channels that are dead after training; if unset, where they are a "
        "quarter of all or more, the pattern stays whole and the format is not dense.",
    )
    criterion: str = Field(
        default="magnitude", description="Which weights of a layer stay: a criterion's name."
    )
    rotation: bool = Field(
        default=True,
        description="Turn linear streams, such as the bottlenecks of MobileNetV2, to where the "
        "weights around them are sparser; the model computes the same.",
    )
    num_samples: int | None = Field(
        default=None, ge=1, description="Calibration samples; all if unset."
    )
    seed: int = Field(default=0, ge=0, lt=2**32)
    exclude: tuple[str, ...] = Field(
        default=(), description="Regular expressions of weights to leave."
    )
    include: tuple[Literal["optional", "quantised", "recurrent"], ...] = Field(
        default=(), description="Kinds of weights to prune beside those of Conv, Gemm and MatMul."
    )
    only: tuple[str, ...] = Field(
        default=(), description="Regular expressions of weights to prune; all others are left."
    )
    layer_sparsity: dict[str, Annotated[float, Field(ge=0, lt=1)]] = Field(
        default={}, description="Sparsity of the weights that a regular expression matches."
    )
    preprocessing: Preprocessing = Preprocessing()
    synthetic: Synthetic = Synthetic()
    allocation: Allocation = Allocation()
    training: Training = Training()

    def with_settings(self, settings: Mapping[str, Any]) -> Recipe:
        """Return a copy with dotted ``settings`` applied, e.g. ``{"training.epochs": 3}``.

        ``{"training": {"epochs": 3}}`` says the same: what a section leaves out stays.

        Raises `UsageError` for an unknown key or a value out of range.
        """
        if not isinstance(settings, Mapping):
            raise UsageError(f"settings are {settings!r}; allowed: a dict of values by dotted key")
        data = self.model_dump(mode="json")
        for dotted, value in self._single(settings):
            section = data
            *path, key = dotted.split(".")
            for part in path:
                if not isinstance(section.get(part), dict):
                    raise unknown_key(Recipe, "setting", dotted)
                section = section[part]
            section[key] = list(value) if isinstance(value, tuple) else value
        return validated(Recipe, data, "setting")

    def _single(self, settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield ``settings`` one by one, those of whole sections under their dotted keys."""
        for dotted, value in settings.items():
            section: Any = self
            for part in str(dotted).split("."):
                known = isinstance(section, Section) and part in type(section).model_fields
                section = getattr(section, part) if known else None
            value = value.model_dump(mode="json") if isinstance(value, Section) else value
            if not isinstance(section, Section):
                yield str(dotted), value
            elif isinstance(value, Mapping):
                yield from self._single({f"{dotted}.{key}": inner for key, inner in value.items()})
            else:
                raise UsageError(
                    f"setting: key {dotted} is {value!r}; allowed: a mapping of keys to values"
                )

    def to_yaml(self) -> str:
        """Return the recipe as YAML that `load_recipe` reads back to an equal recipe."""
        return write_yaml(self.model_dump(mode="json"))
