"""Recipes: the schema of a compression method's settings, read from YAML, checked key by key."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from onnx_unipts import calibration
from onnx_unipts.graph.errors import UsageError
from onnx_unipts.yaml_text import read_yaml, write_yaml

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


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class Search(_Section):
    """The evolutionary search of the per-layer sparsity (UniPTS, section 3.3)."""

    population: int = Field(default=14, ge=2, le=10_000, description="Genomes kept per generation.")
    generations: int = Field(
        default=7, ge=0, le=10_000, description="Generations after the first one."
    )
    parents: int = Field(default=6, ge=2, le=10_000, description="Best genomes that breed.")
    crossovers: int = Field(default=12, ge=0, le=10_000, description="Children of crossover.")
    crossover: Literal["weighted", "uniform"] = Field(
        default="weighted",
        description="Mean of all parents plus N(0, strength), or each gene from one of two.",
    )
    mutations: int = Field(default=0, ge=0, le=10_000, description="Children by mutation.")
    mutation: Literal["additive", "relative"] = Field(
        default="additive", description="gene + N(0, strength), or gene * (1 + N(0, strength))."
    )
    mutation_rate: float = Field(default=0.3, gt=0, le=1, description="Share of genes that mutate.")
    mutation_strength: float = Field(default=0.3, gt=0, le=10, description="Spread of a mutation.")
    elite: int = Field(default=2, ge=0, le=1000, description="Best genomes that survive unchanged.")
    reduction: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Pe - P: how far layers are reduced before they regrow.",
    )
    starts: tuple[str, ...] = Field(
        default=("lamp", "global", "erk", "uniform"),
        description="Allocations in the first generation.",
    )
    samples: int = Field(
        default=512, ge=1, description="Calibration samples that score one genome."
    )
    halving: bool = Field(
        default=True,
        description="Only the better half of the genomes is scored on each doubling of samples.",
    )
    noise: float = Field(
        default=1e-6, ge=0, le=1, description="Spread of the noise added to the inputs."
    )
    fitness: str = Field(default="divergence", description="divergence (no labels) or accuracy.")


class Allocation(_Section):
    """How sparse each layer becomes."""

    method: str = Field(
        default="auto",
        description="An allocator's name, or auto: by what becomes of the allocation.",
    )
    minimum: float = Field(
        default=0.0, ge=0, lt=1, description="Least share of each layer's weights that is kept."
    )
    levels: int = Field(
        default=8, ge=2, le=1000, description="Sparsities at which sensitivity measures a layer."
    )
    search: Search = Search()


class Training(_Section):
    """The sparse training that recovers the accuracy (UniPTS, sections 3.1 and 3.2)."""

    epochs: int = Field(
        default=3, ge=0, le=100_000, description="Passes over the calibration data."
    )
    batch_size: int = Field(
        default=64, ge=1, le=65_536, description="Samples per step, all replicas."
    )
    learning_rate: float = Field(default=0.01, gt=0, le=10, description="Peak learning rate.")
    warmup: float = Field(default=0.1, ge=0, le=1, description="Share of all steps that warm up.")
    cosine_power: float = Field(
        default=1.0,
        gt=0,
        le=10,
        description="Power of the half cosine along which the rate falls; below 1: later.",
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="Momentum of SGD.")
    weight_decay: float = Field(
        default=1e-4, ge=0, le=1, description="Decay of all trained tensors."
    )
    pruned_decay: float = Field(
        default=0.1, ge=0, le=1, description="Further decay of pruned weights."
    )
    ramp: float = Field(
        default=0.5, ge=0, le=1, description="Share of all steps over which sparsity grows (cubic)."
    )
    recovery: str = Field(
        default="dynamic", description="What trains and how masks follow: a recovery's name."
    )
    reconstruction: bool = Field(
        default=False, description="Fit each layer to its dense outputs before training."
    )
    objective: str = Field(default="kl", description="A training objective's name.")
    temperature: float = Field(default=4.0, gt=0, le=100, description="Temperature of the teacher.")
    student_temperature: float = Field(
        default=4.0, gt=0, le=100, description="Temperature of the student at the first epoch."
    )
    base_decay: float = Field(
        default=1.0, gt=0, le=1, description="Factor on the student's temperature after each epoch."
    )
    features: float = Field(
        default=200.0,
        ge=0,
        le=1e4,
        description="Weight of inner activations in the loss; 0 is none.",
    )
    features_fade: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of all steps over which inner activations leave the loss; 0: they stay.",
    )
    losses: dict[str, Literal["kl", "mse"]] = Field(
        default_factory=dict,
        description="By output: kl or mse, where what its shape says does not fit.",
    )
    adaptation: int = Field(
        default=400,
        ge=0,
        le=100_000,
        description="Steps in which the dense model adapts to the data before it teaches.",
    )
    adaptation_rate: float = Field(
        default=0.004, gt=0, le=1, description="Learning rate of the adaptation."
    )
    teacher_statistics: Literal["batch", "running"] = Field(
        default="running",
        description="Normalisation statistics of the dense model while it teaches.",
    )
    filter_scale: Literal["none", "unit-variance", "he"] = Field(
        default="he", description="Scale of the filters where a BatchNormalization is inserted."
    )
    augment: bool = Field(default=True, description="Shift and flip images.")


class Preprocessing(_Section):
    """How files become a model's inputs (`onnx_unipts.calibration.Preprocessing`)."""

    preset: str | None = Field(default=None, description="Mean, std and scale of known models.")
    mean: tuple[float, ...] | None = Field(default=None, description="Subtracted from pixels.")
    std: tuple[float, ...] | None = Field(default=None, description="Divides pixels.")
    scale: float | None = Field(default=None, gt=0, description="Factor on pixels before the mean.")
    channel_order: Literal["rgb", "bgr"] | None = Field(
        default=None, description="Order in which the model takes the channels."
    )
    resize: int | None = Field(default=None, ge=1, description="Length of the shorter side.")
    crop: int | None = Field(default=None, ge=1, description="Side of the centre square.")
    layout: Literal["nchw", "nhwc"] | None = Field(default=None, description="Axes of images.")
    tokenizer: str | None = Field(default=None, description="Tokenizer file of a text.")

    def options(self) -> calibration.Preprocessing:
        """Return what calibration data is loaded with. Raises `UsageError`."""
        return calibration.Preprocessing(**self.model_dump())


class Synthetic(_Section):
    """How inputs that are made up for want of data are refined (`onnx_unipts.synthesis`)."""

    refinement: int = Field(default=0, ge=0, le=10_000, description="Gradient steps on images.")
    rate: float = Field(default=4.0, gt=0, le=255, description="Mean change of a pixel, of 255.")
    confidence: float = Field(
        default=0.7, gt=0, lt=1, description="Least probability of the class an image is to show."
    )


class Recipe(_Section):
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
        description="Remove channels that are dead after training; if unset, where the pattern "
        "stays whole and the format is not dense.",
    )
    criterion: str = Field(
        default="magnitude", description="Which weights of a layer stay: a criterion's name."
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

        Raises `UsageError` for an unknown key or a value out of range.
        """
        data = self.model_dump(mode="json")
        for dotted, value in settings.items():
            section = data
            *path, key = dotted.split(".")
            for part in path:
                if not isinstance(section.get(part), dict):
                    raise _unknown_key("setting", dotted)
                section = section[part]
            section[key] = list(value) if isinstance(value, tuple) else value
        return _validated(data, "setting")

    def to_yaml(self) -> str:
        """Return the recipe as YAML that `load_recipe` reads back to an equal recipe."""
        return write_yaml(self.model_dump(mode="json"))


def list_recipes() -> dict[str, str]:
    """Return the description of every recipe that ships with the tool, by name."""
    return {name: load_recipe(name).description for name in _shipped()}


def load_recipe(source: str | os.PathLike[str]) -> Recipe:
    """Read the recipe called ``source``, or the YAML file at that path.

    Settings that it leaves out are those of the shipped recipe that its key ``base`` names, else
    the defaults.

    Raises `UsageError` that names the file, the key and what is allowed.
    """
    name = os.fspath(source)
    shipped = _shipped()
    if name in shipped:
        return _parse(
            resources.files("onnx_unipts.recipes")
            .joinpath(f"{name}.yaml")
            .read_text(encoding="utf-8"),
            f"recipe {name}",
        )
    path = Path(name)
    if not path.is_file():
        close = difflib.get_close_matches(name, shipped, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise UsageError(
            f"unknown recipe {name!r}{hint}: neither a file nor one of {', '.join(shipped)}"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {name}: cannot be read ({error})") from error
    return _parse(text, f"recipe {name}")


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Turn ``key=value`` strings into a dict, values read as YAML. Raises `UsageError`."""
    settings = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise UsageError(f"setting {assignment!r}: expected key=value, as in training.epochs=3")
        try:
            settings[key.strip()] = read_yaml(value)
        except yaml.YAMLError as error:
            raise UsageError(f"setting {assignment!r}: the value is not valid YAML") from error
    return settings


def _shipped() -> list[str]:
    files = resources.files("onnx_unipts.recipes").iterdir()
    return sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))


def _parse(text: str, where: str) -> Recipe:
    try:
        data = read_yaml(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" at line {mark.line + 1}" if mark else ""
        raise UsageError(f"{where}: not valid YAML{line}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{where}: expected a mapping of keys to values")
    return _validated(_on_its_base(data, where), where)


def _on_its_base(data: dict[str, Any], where: str) -> dict[str, Any]:
    """Return ``data`` with what it leaves out taken from the recipe that its key ``base`` names."""
    if "base" not in data:
        return data
    base = data["base"]
    if base not in _shipped():
        raise UsageError(f"{where}: key base is {base!r}; allowed: one of {', '.join(_shipped())}")
    own = {key: value for key, value in data.items() if key != "base"}
    return _merged(load_recipe(base).model_dump(mode="json"), own)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {**below, **above}
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(below.get(key), Mapping):
            both[key] = _merged(below[key], value)
    return both


def _validated(data: Mapping[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] in ("extra_forbidden", "invalid_key"):
        raise _unknown_key(where, ".".join(path))
    key, allowed = _allowed(path)
    raise UsageError(f"{where}: key {key} is {first['input']!r}; allowed: {allowed}")


def _unknown_key(where: str, dotted: str) -> UsageError:
    section: type[BaseModel] = Recipe
    for part in dotted.split(".")[:-1]:
        deeper = _section(section.model_fields.get(part))
        if deeper is None:
            break
        section = deeper
    known = {key.rpartition(".")[2]: key for key in _keys(Recipe)}
    close = difflib.get_close_matches(dotted.rpartition(".")[2], known, n=1)
    hint = f" (did you mean {known[close[0]]}?)" if close else ""
    allowed = ", ".join(section.model_fields)
    return UsageError(f"{where}: unknown key {dotted}{hint}; allowed here: {allowed}")


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        deeper = _section(field)
        if deeper is None:
            yield prefix + name
        else:
            yield from _keys(deeper, f"{prefix}{name}.")


def _section(field: FieldInfo | None) -> type[BaseModel] | None:
    annotation: Any = field.annotation if field is not None else None
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation if is_section else None


def _allowed(path: Sequence[str]) -> tuple[str, str]:
    """Return the dotted key of the field that ``path`` leads to, and what it may hold, in words."""
    section: type[BaseModel] = Recipe
    for depth, part in enumerate(path, start=1):
        field = section.model_fields[part]
        deeper = _section(field)
        if deeper is None:
            return ".".join(path[:depth]), _kind(field.annotation, _range(field.metadata))
        section = deeper
    return ".".join(path), "a mapping of keys to values"


def _kind(annotation: Any, bounds: str = "") -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    if origin is tuple:
        return "a list of numbers" if arguments[0] is float else "a list of strings"
    if origin is dict:
        return "regular expressions with a number of at least 0 and below 1 each"
    if arguments:
        return f"{_kind(arguments[0], bounds)}, or null"
    kinds = {int: "an integer", float: "a number", bool: "true or false"}
    return kinds.get(annotation, "a string") + bounds


def _range(constraints: Iterable[Any]) -> str:
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    bounds = [
        f"{word} {getattr(constraint, name)}"
        for constraint in constraints
        for name, word in words.items()
        if hasattr(constraint, name)
    ]
    return f" {' and '.join(bounds)}" if bounds else ""
