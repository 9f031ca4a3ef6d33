"""The sections of a recipe: search, allocation, training, preprocessing, made-up inputs."""

from __future__ import annotations

import os
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from onnx_unipts import calibration

__all__ = ["Allocation", "Preprocessing", "Search", "Section", "Synthetic", "Training"]


class Section(BaseModel):
    """A section: it knows its keys, and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_as_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse ``true`` where it would count as 1."""
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (annotation, *get_args(annotation)):
            raise ValueError("true and false are no numbers")
        return value


class Search(Section):
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


class Allocation(Section):
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


class Training(Section):
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
    reconstruction: bool | None = Field(
        default=None,
        description="Fit each layer to its dense outputs before training; null: where samples or "
        "steps are few, and where a rehearsal shows that it helps.",
    )
    careful: bool | None = Field(
        default=None,
        description="From fitted layers by small steps, which keep statistics; null: unless scores "
        "of classes are learned from a dense model that adapts to many samples.",
    )
    reconstruction_masks: Literal["auto", "fixed", "searched"] = Field(
        default="auto",
        description="With reconstruction by magnitude: masks fixed, searched with the weights, or "
        "auto: searched where training follows and samples are not made up.",
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
    augment: bool = Field(
        default=True, description="Shift and flip images; fit layers to parts of few."
    )

    def steps(self, samples: int) -> int:
        """Return the number of steps of all epochs over ``samples``: of whole batches."""
        return self.epochs * (samples // self.batch_size)


class Preprocessing(Section):
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

    @classmethod
    def of(cls, options: calibration.Preprocessing) -> Preprocessing:
        """Return what ``options`` say, as far as it can stand in a recipe."""
        said = {name: getattr(options, name) for name in cls.model_fields}
        tokenizer = options.tokenizer
        return cls(**said | {"tokenizer": None if tokenizer is None else os.fspath(tokenizer)})

    def options(self) -> calibration.Preprocessing:
        """Return what calibration data is loaded with. Raises `UsageError`."""
        return calibration.Preprocessing(**self.model_dump())


class Synthetic(Section):
    """How inputs that are made up for want of data are refined (`onnx_unipts.synthesis`)."""

    refinement: int = Field(default=0, ge=0, le=10_000, description="Gradient steps on images.")
    rate: float = Field(default=4.0, gt=0, le=255, description="Mean change of a pixel, of 255.")
    confidence: float = Field(
        default=0.7, gt=0, lt=1, description="Least probability of the class an image is to show."
    )
