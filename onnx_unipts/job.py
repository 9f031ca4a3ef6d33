"""What a run is about: model, data, recipe and output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from onnx_unipts.allocation.automatic import allocator_for
from onnx_unipts.allocation.file import is_allocator, kept_in
from onnx_unipts.allocation.prescribed import prescribed_sparsities
from onnx_unipts.calibration import CalibrationData
from onnx_unipts.callbacks import Callbacks
from onnx_unipts.environment import versions
from onnx_unipts.export import Storage
from onnx_unipts.external_data import data_files, digest
from onnx_unipts.graph.dynamic_batch import Batching
from onnx_unipts.graph.model import load_model, write_tensors
from onnx_unipts.graph.prunable import PrunableWeight
from onnx_unipts.graph.randomness import random_nodes
from onnx_unipts.patterns import Layout, Masking, Pattern, parse_pattern
from onnx_unipts.progress import Progress, Quiet
from onnx_unipts.recipe import Recipe
from onnx_unipts.targets import Target, choose_targets
from onnx_unipts.training.trainer import replicas_for

__all__ = ["Job"]

HALF = ("FLOAT16", "BFLOAT16")


@dataclass
class Job:
    """A compression, ready to run.

    ``dense`` is the user's model and never changed: `load` gives a fresh copy to work on. Where
    ``rotated`` holds tensors, both have these, and compute the same with them.
    ``pruned`` are the weights to prune, ``weights`` also those that are not, with the reason;
    ``synthetic`` says that ``data`` was made up, ``batching`` how samples are fed to the model.
    ``keep_warning`` is told of each warning, so that a resumed run has them, too.
    """

    path: Path
    output: Path
    recipe: Recipe
    sparsity: float
    dense: ir.Model
    weights: list[PrunableWeight]
    data: CalibrationData
    eval_data: CalibrationData | None
    command: str
    cores: int
    backend: str = "threading"
    progress: Progress = field(default_factory=Quiet)
    warnings: list[str] = field(default_factory=list)
    keep_warning: Callable[[str], object] | None = None
    synthetic: bool = False
    callbacks: Callbacks = field(default_factory=Callbacks)
    storage: Storage = field(default_factory=lambda: Storage("dense"))
    batching: Batching = field(default_factory=Batching)
    rotated: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def pruned(self) -> list[PrunableWeight]:
        """The weights to prune."""
        return [weight for weight in self.weights if weight.pruned]

    @property
    def keys(self) -> list[str]:
        """The keys of the weights to prune."""
        return [weight.key for weight in self.pruned]

    @cached_property
    def pattern(self) -> Pattern:
        """Which weights may be zero together."""
        return parse_pattern(self.recipe.pattern)

    @cached_property
    def masking(self) -> Masking:
        """How the masks of the weights to prune are made."""
        return Masking(self.pattern, {weight.key: Layout.of(weight) for weight in self.pruned})

    @cached_property
    def targets(self) -> list[Target]:
        """What of the dense model's outputs is compared with it.

        Raises `UnsupportedModelError` where nothing can be, `UsageError` for a loss of no output.
        """
        return choose_targets(self.dense, self.recipe.training.losses)

    def allocator(self, searching: bool = False) -> str:
        """The name of what shares the sparsity out, or a file; ``searching`` where that is all."""
        training = self.recipe.training
        trained = training.epochs > 0 and not self.pattern.whole_model
        fitted = self.trains_carefully and training.recovery == "dynamic" and not self.synthetic
        return allocator_for(self.recipe.allocation.method, searching or not trained, fitted)

    @property
    def eliminates(self) -> bool:
        """Whether dead channels are removed from the sparse model.

        Unless told, not from a model in dense format: who asks for that may count on finding every
        weight in its shape, with its zeros.
        """
        wanted = self.recipe.eliminate_dead_channels
        if wanted is not None:
            return wanted
        kept_whole = self.storage.format == "dense" and not self.pattern.whole_model
        return self.pattern.survives_removal and not kept_whole

    @property
    def adaptation(self) -> int:
        """The steps in which the dense model adapts to the data before it teaches.

        None on made-up data; none before careful training from fitted layers.
        """
        settings = self.recipe.training
        if self.synthetic or settings.epochs == 0 or self.trains_carefully:
            return 0
        return settings.adaptation

    @property
    def trains_carefully(self) -> bool:
        """Whether layers are fitted and then trained by small steps alone."""
        settings = self.recipe.training
        return bool(settings.reconstruction) and settings.careful is not False

    @property
    def restates(self) -> bool:
        """Whether the statistics of the model's own normalisations become those of the data.

        The student is normalised by these. A dense model that teaches with its own is where the
        student starts only then.
        """
        settings = self.recipe.training
        own = settings.epochs > 0 and settings.teacher_statistics == "running"
        return self.synthetic or own

    @property
    def searches_masks(self) -> bool:
        """Whether masks follow where layers are fitted: no criterion or recovery holds them."""
        settings = self.recipe.training
        free = self.recipe.criterion == "magnitude" and settings.recovery == "dynamic"
        free = free and not self.pattern.whole_model
        if settings.reconstruction_masks == "auto":
            return free and settings.epochs > 0 and not self.synthetic
        return free and settings.reconstruction_masks == "searched"

    @property
    def quantised(self) -> bool:
        """Whether some of the weights to prune are integers: these are not trained."""
        return any(weight.dtype in ("INT8", "UINT8") for weight in self.pruned)

    @cached_property
    def random(self) -> list[str]:
        """The nodes of the model that make random numbers: no two runs of it are equal."""
        return random_nodes(self.dense)

    @property
    def half(self) -> bool:
        """Whether weights or outputs are in half precision, which rounds coarsely."""
        outputs = (value.dtype.name for value in self.dense.graph.outputs if value.dtype)
        return any(d in HALF for d in (*(weight.dtype for weight in self.pruned), *outputs))

    @property
    def own_batching(self) -> Batching | None:
        """How the user's files are fed; None where the shapes of their inputs say it."""
        return self.batching if self.batching.size is not None else None

    @property
    def replicas(self) -> int:
        """How many replicas of the student share a batch."""
        return replicas_for(self.recipe.training.batch_size, self.cores)

    @property
    def allocation_file(self) -> Path | None:
        """The file that the allocation is read from, None where it is found."""
        method = self.recipe.allocation.method
        return None if is_allocator(method) else Path(method)

    def load(self) -> ir.Model:
        """Return a fresh copy of the user's model, rotated where the job is."""
        model = load_model(self.path)
        write_tensors(model, self.rotated)
        return model

    @property
    def prescribed(self) -> dict[str, float]:
        """The sparsity of the weights whose sparsity the recipe prescribes, by key."""
        return prescribed_sparsities(self.weights, self.recipe.layer_sparsity)

    def warn(self, text: str) -> None:
        """Tell the user now, and once more in the report; the same only once."""
        if text in self.warnings:
            return
        self.warnings.append(text)
        self.progress.warning(text)
        if self.keep_warning is not None:
            self.keep_warning(text)

    def fingerprint(self) -> dict[str, Any]:
        """Return what the result depends on: a run is resumed only where all of it is equal."""
        file = self.allocation_file
        return {
            "model": digest([self.path, *data_files(self.path)]),
            "sparsity": self.sparsity,
            "recipe": self.recipe.model_dump(mode="json"),
            "data": self.data.fingerprint,
            "replicas": self.replicas,
            "versions": versions(),
            **({} if file is None else {"allocation": kept_in(str(file))}),
        }
