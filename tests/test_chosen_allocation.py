"""Compression by every allocator, by one of the user, and by a file of kept weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from compression import PRUNABLE, UNTRAINED, compress, floor_of, initializers, zeros_in
from small_networks import classifier

from onnx_unipts.allocation import ALLOCATORS, Problem
from onnx_unipts.graph.errors import TargetMissedError, UsageError

pytestmark = pytest.mark.usefixtures("quick_simplification")


@pytest.mark.parametrize(
    "method", ["uniform", "erk", "global", "lamp", "evolutionary", "fitted-sensitivity"]
)
@pytest.mark.parametrize("sparsity", [0.5, 0.95])
def test_every_allocation_hits_the_target(method: str, sparsity: float, tmp_path: Path):
    chosen = UNTRAINED | {"allocation.method": method}
    result = compress(classifier(), tmp_path, chosen, sparsity=sparsity)
    assert result.output is not None
    assert zeros_in(result.output, "w1", "w2", "w3") == floor_of(sparsity, PRUNABLE)
    document = json.loads((result.run_dir / "allocation.json").read_text())
    assert document["method"] == method
    assert document["target"] == sparsity
    per_layer = {layer["name"]: layer["kept"] for layer in document["layers"]}
    assert per_layer == {
        name: int(np.count_nonzero(initializers(result.output)[name])) for name in per_layer
    }


def test_any_allocator_may_score_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def better(problem: Problem) -> dict[str, int]:
        assert problem.score is not None
        candidates = [ALLOCATORS[name](problem) for name in ("uniform", "lamp")]
        fitness = problem.score(candidates)
        return candidates[int(np.argmax(fitness))]

    monkeypatch.setitem(ALLOCATORS._plugins, "better", better)
    result = compress(classifier(), tmp_path, UNTRAINED | {"allocation.method": "better"})
    assert result.output is not None
    assert zeros_in(result.output, "w1", "w2", "w3") == floor_of(0.8, PRUNABLE)


def test_an_allocation_file_decides(tmp_path: Path):
    document = {"layers": [{"name": "w1", "kept": 100}, {"name": "w2", "kept": 60}]}
    document["layers"].append({"name": "w3", "kept": PRUNABLE - floor_of(0.8, PRUNABLE) - 160})
    (tmp_path / "mine.json").write_text(json.dumps(document))
    chosen = UNTRAINED | {"allocation.method": str(tmp_path / "mine.json")}
    result = compress(classifier(), tmp_path, chosen)
    assert result.output is not None
    assert np.count_nonzero(initializers(result.output)["w1"]) == 100


def test_an_allocation_file_for_another_sparsity_is_refused(tmp_path: Path):
    layers = [{"name": name, "kept": kept} for name, kept in (("w1", 5), ("w2", 5), ("w3", 5))]
    (tmp_path / "mine.json").write_text(json.dumps({"layers": layers}))
    chosen = UNTRAINED | {"allocation.method": str(tmp_path / "mine.json")}
    with pytest.raises((UsageError, TargetMissedError), match=r"mine\.json"):
        compress(classifier(), tmp_path, chosen)
