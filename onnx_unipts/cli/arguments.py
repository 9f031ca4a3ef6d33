"""What the groups of options hold: an object a group, which reaches the command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from onnx_unipts.calibration import Preprocessing
    from onnx_unipts.progress import Progress
    from onnx_unipts.recipe import Recipe

__all__ = [
    "DataArguments",
    "MethodArguments",
    "RunArguments",
    "ShowArguments",
    "StorageArguments",
    "WeightArguments",
    "WritingArguments",
    "losses_of",
]

PREPROCESSING = (
    "preset", "mean", "std", "channel_order", "resize", "crop", "layout", "tokenizer"
)  # fmt: skip


@dataclass(frozen=True)
class DataArguments:
    """Where inputs come from and how they are prepared."""

    data: str | None
    preset: str | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    channel_order: str | None
    resize: int | None
    crop: int | None
    layout: str | None
    tokenizer: str | None
    input_shape: tuple[str, ...]

    def preprocessing(self) -> Preprocessing:
        """Return the preprocessing object. Raises `UsageError`."""
        from onnx_unipts.calibration import Preprocessing

        said: dict[str, Any] = {name: getattr(self, name) for name in PREPROCESSING}
        return Preprocessing(**said)

    def settings(self) -> dict[str, Any]:
        """Return what was said about preprocessing as settings of a recipe."""
        said = {f"preprocessing.{name}": getattr(self, name) for name in PREPROCESSING}
        return {key: value for key, value in said.items() if value is not None}

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the given shapes by input name. Raises `UsageError`."""
        from onnx_unipts.calibration import parse_input_shapes

        return parse_input_shapes(self.input_shape)

    def keywords(self) -> dict[str, Any]:
        """Return what the functions that compare two models take of it. Raises `UsageError`."""
        return {
            "data": self.data,
            "preprocessing": self.preprocessing(),
            "input_shapes": self.input_shapes(),
        }


@dataclass(frozen=True)
class WeightArguments:
    """Which weights are pruned."""

    exclude: tuple[str, ...]
    include: tuple[str, ...]
    only: tuple[str, ...]


@dataclass(frozen=True)
class MethodArguments(WeightArguments):
    """The recipe, and the options that stand for single settings of it."""

    sparsity: float | None
    recipe: str
    settings: tuple[str, ...]
    pattern: str | None
    eliminate_dead_channels: bool | None
    allocation: str | None
    layer_sparsity: dict[str, float]
    epochs: int | None
    lr: float | None
    loss: tuple[str, ...]
    batch_size: int | None
    num_samples: int | None
    seed: int | None

    def load(self, *, sparsity_needed: bool = True) -> Recipe:
        """Read the recipe and apply every setting.

        Raises `UsageError`, also without a sparsity where it is needed.
        """
        from onnx_unipts.patterns import parse_pattern, target_sparsity
        from onnx_unipts.recipe import load_recipe, parse_settings

        settings = parse_settings(self.settings) | self._shortcuts()
        recipe = load_recipe(self.recipe).with_settings(settings)
        if sparsity_needed:
            target_sparsity(parse_pattern(recipe.pattern), recipe.sparsity)
        return recipe

    def _shortcuts(self) -> dict[str, Any]:
        values = {
            "sparsity": self.sparsity,
            "pattern": self.pattern,
            "eliminate_dead_channels": self.eliminate_dead_channels,
            "allocation.method": self.allocation,
            "exclude": self.exclude or None,
            "include": self.include or None,
            "only": self.only or None,
            "layer_sparsity": self.layer_sparsity or None,
            "training.epochs": self.epochs,
            "training.learning_rate": self.lr,
            "training.losses": losses_of(self.loss) or None,
            "training.batch_size": self.batch_size,
            "num_samples": self.num_samples,
            "seed": self.seed,
        }
        return {key: value for key, value in values.items() if value is not None}


@dataclass(frozen=True)
class RunArguments:
    """How a long run is held and resumed, named as `onnx_unipts.compress` takes it."""

    run_dir: Path | None
    resume: bool
    jobs: int | None
    backend: str
    dry_run: bool


@dataclass(frozen=True)
class StorageArguments:
    """How weights are packed, named as `onnx_unipts.compress` takes it."""

    pack: str
    values: str


@dataclass(frozen=True)
class WritingArguments:
    """What is written beside the model, and how it is, named as `onnx_unipts.compress` takes it."""

    quantize: str | None
    save_recipe: Path | None
    report: Path | None


@dataclass(frozen=True)
class ShowArguments:
    """What the user sees."""

    json: bool
    quiet: bool
    verbose: bool

    def progress(self) -> Progress:
        """Return what shows progress on standard error."""
        from onnx_unipts.progress import make_progress

        return make_progress(quiet=self.quiet)

    def result(self, document: Mapping[str, Any], table: Callable[[Any], None]) -> None:
        """Print ``document`` on standard output: as JSON, as a ``table``, or not at all."""
        if self.json:
            from onnx_unipts.json_text import to_json

            click.echo(to_json(document))
        elif not self.quiet:
            table(document)


def losses_of(texts: Sequence[str]) -> dict[str, str]:
    """Return the loss by output: what follows the last equals sign, names may hold others."""
    pairs = (text.rpartition("=") for text in texts)
    return {name: loss for name, _, loss in pairs}
