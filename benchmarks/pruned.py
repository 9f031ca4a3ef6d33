"""A model pruned by magnitude and not trained: what the benchmarks of file formats measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from onnx_unipts.allocation import ALLOCATORS, Problem
from onnx_unipts.graph.model import load_model, read_tensors, write_tensors
from onnx_unipts.graph.prunable import find_prunable


def pruned(path: Path, sparsity: float, allocation: str) -> tuple[ir.Model, dict[str, np.ndarray]]:
    """Return the model of ``path`` with its smallest weights zero, and the pruned weights."""
    model = load_model(path)
    keys = [weight.key for weight in find_prunable(model) if weight.pruned]
    tensors = {key: tensor.astype(np.float32) for key, tensor in read_tensors(model, keys).items()}
    kept = ALLOCATORS[allocation](Problem(tensors, sparsity))
    stored = read_tensors(model, keys)
    for key, tensor in stored.items():
        flat = tensor.reshape(-1).copy()
        flat[np.argsort(np.abs(flat), kind="stable")[: flat.size - kept[key]]] = 0
        write_tensors(model, {key: flat.reshape(tensor.shape)})
    return model, read_tensors(model, keys)
