"""Compression of small networks with small budgets, and what its files hold."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from small_networks import classifier, images, saved

from onnx_unipts import api
from onnx_unipts.calibration import input_signature, load_calibration_data
from onnx_unipts.graph.model import load_model
from onnx_unipts.graph.prunable import find_prunable
from onnx_unipts.job import Job
from onnx_unipts.recipe import load_recipe

PRUNABLE = 824
QUICK: dict[str, Any] = {
    "training.adaptation": 0,
    "training.reconstruction": False,
    "training.epochs": 1,
    "training.batch_size": 16,
    "allocation.method": "lamp",
    "allocation.search.population": 4,
    "allocation.search.generations": 3,
    "allocation.search.parents": 2,
    "allocation.search.crossovers": 2,
    "allocation.search.mutations": 2,
    "allocation.search.samples": 32,
}
UNTRAINED = QUICK | {"training.epochs": 0}
SEARCHED = QUICK | {"allocation.method": "evolutionary"}


def vectors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((48, 10)).astype(np.float32)


def compress(
    model: onnx.ModelProto | Path,
    directory: Path,
    settings: dict[str, Any] = QUICK,
    *,
    sparsity: float = 0.8,
    data: Any = None,
    **options: Any,
) -> api.Result:
    path = model if isinstance(model, Path) else saved(model, directory)
    data = {"x": images()} if data is None else data
    options = {"jobs": 2, "format": "dense"} | options
    return api.compress(path, sparsity=sparsity, settings=settings, data=data, **options)


def initializers(path: Path) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def zeros_in(path: Path, *names: str) -> int:
    tensors = initializers(path)
    return sum(int((tensors[name] == 0).sum()) for name in names)


def floor_of(sparsity: float, count: int) -> int:
    return int(Fraction(repr(sparsity)) * count)


def saved_externally(model: onnx.ModelProto, directory: Path) -> Path:
    path = directory / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=64)
    return path


def job_of(directory: Path, samples: int = 64, synthetic: bool = False, **settings: Any) -> Job:
    """Return the job of training `classifier` on ``samples`` from fitted layers."""
    path = saved(classifier(), directory)
    model = load_model(path)
    data = load_calibration_data({"x": images(samples)}, input_signature(model, {}))
    recipe = load_recipe("unipts").with_settings(
        {"training.reconstruction": True} | {f"training.{k}": v for k, v in settings.items()}
    )
    return Job(
        path, path, recipe, 0.5, model, find_prunable(model), data, None, "", 1, synthetic=synthetic
    )
