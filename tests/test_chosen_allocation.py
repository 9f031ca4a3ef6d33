"""Compression by every allocator, by one of the user, and by a file of kept weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from compression import PRUNABLE, UNTRAINED, compress, floor_of, initializers, zeros_in
from small_networks import classifier

from onnx_unipts.allocation import ALLOCATORS, SEARCHES, Problem, register_search
from onnx_unipts.allocation.lamp import lamp
from onnx_unipts.graph.errors import TargetMissedError, UsageError
from onnx_unipts.result import Result

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


def test_a_search_says_itself_what_it_costs_and_what_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for registry in (ALLOCATORS, SEARCHES):
        monkeypatch.setattr(registry, "_plugins", {name: registry[name] for name in registry})
    for name, count in (("short", 1), ("long", 1000)):
        register_search(name, lambda problem, count=count: count * len(problem.weights))(lamp)
    register_search("layers", lambda problem: 1, layer_by_layer=True)(lamp)

    def plan(method: str, pattern: str = "unstructured") -> Result:
        chosen = UNTRAINED | {"allocation.method": method, "pattern": pattern}
        return compress(classifier(), tmp_path, chosen, dry_run=True)

    free, short, long = (
        plan(method).report["estimate"]["search_seconds"] for method in ("lamp", "short", "long")
    )
    assert free == 0 < short < long / 100
    plan("short", "channel")
    with pytest.raises(UsageError, match="allocation layers: it masks layers one by one"):
        plan("layers", "channel")


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
