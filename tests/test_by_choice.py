"""Weights that are pruned by choice, or for want of others: found, counted, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from compression import UNTRAINED
from small_networks import draw, network, saved

import onnx_unipts
from onnx_unipts.cli import main

pytestmark = pytest.mark.usefixtures("quick_simplification")

RECURRENT = """net (float[n,5,4] x) => (float[n,3] scores) {
    t = Transpose <perm = [1,0,2]> (x)
    y, h = GRU <hidden_size = 8> (t, w, r)
    f = Squeeze (h, zero)
    scores = MatMul (f, m)
}"""


def model(alone: bool) -> onnx.ModelProto:
    """Return a GRU, ``alone`` or before a matrix product."""
    tensors: dict[str, Any] = {"zero": np.zeros(1, np.int64)}
    tensors |= draw(0, w=(1, 24, 4), r=(1, 24, 8))
    if not alone:
        return network(RECURRENT, tensors | draw(1, m=(8, 3)))
    text = RECURRENT.replace("    scores = MatMul (f, m)\n", "").replace("f = Sq", "scores = Sq")
    return network(text.replace("float[n,3]", "float[n,8]"), tensors)


def compressed(path: Path, **settings: Any) -> onnx_unipts.Result:
    x = np.random.default_rng(0).standard_normal((48, 5, 4)).astype(np.float32)
    return onnx_unipts.compress(
        path, sparsity=0.5, data={"x": x}, jobs=1, settings=UNTRAINED | settings
    )


@pytest.mark.parametrize(
    ("alone", "settings", "weights"),
    [(True, {}, 288), (False, {"include": ["recurrent"]}, 312), (False, {}, 24)],
    ids=["for want of others", "by choice", "left as they are"],
)
def test_they_are_counted_where_they_were_pruned(
    tmp_path: Path, alone: bool, settings: dict[str, Any], weights: int
):
    path = saved(model(alone), tmp_path)
    result = compressed(path, **settings)
    assert result.output is not None
    counted = [
        result.report["sparsity"],
        onnx_unipts.evaluate(path, result.output)["sparsity"],
        onnx_unipts.benchmark(path, result.output, seconds=0.01)["sparsity"],
    ]
    for sparsity in counted:
        assert (sparsity["weights"], sparsity["zeros"]) == (weights, weights // 2)


def test_inspect_says_what_is_pruned_for_want_of_others(tmp_path: Path):
    alone, beside = saved(model(True), tmp_path, "a.onnx"), saved(model(False), tmp_path, "b.onnx")
    document = onnx_unipts.inspect(alone)
    assert document["last_resort"] == "recurrent"
    assert not any(weight["pruned"] for weight in document["weights"])
    assert onnx_unipts.inspect(beside)["last_resort"] is None
    assert all(w["pruned"] for w in onnx_unipts.inspect(alone, include=["recurrent"])["weights"])
    shown = CliRunner().invoke(main, ["inspect", str(alone)]).stdout
    assert "prunes the recurrent weights, as there are no others" in shown


@pytest.mark.parametrize(
    ("pattern", "others"),
    [("unstructured", "other weights"), ("2:4", "other weights that the pattern 2:4 suits")],
)
def test_that_there_are_no_others_is_said(tmp_path: Path, pattern: str, others: str):
    result = compressed(saved(model(False), tmp_path), exclude=["^m$"], pattern=pattern)
    (said,) = [text for text in result.report["warnings"] if "no other weights" in text]
    assert said == f"the model has no {others}: those of GRU are pruned"


def test_that_they_stay_dense_is_said_where_they_are_not_few(tmp_path: Path):
    path = saved(model(False), tmp_path)
    warnings = compressed(path).report["warnings"]
    told = "2 weights of GRU stay dense: 288 values, 24 are pruned; --include recurrent prunes them"
    assert any(text.startswith(told) for text in warnings)
    for settings in ({"include": ["recurrent"]}, {"exclude": ["^[wr]$"]}):
        assert "stay dense" not in " ".join(compressed(path, **settings).report["warnings"])


def test_weights_that_the_graph_computes_are_said_to_be_left_out(tmp_path: Path):
    text = """net (float[n,5,4] x) => (float[n,5,3] scores) {
        a = MatMul (x, m)
        w = Mul (v, v)
        scores = MatMul (a, w)
    }"""
    path = saved(network(text, draw(0, m=(4, 6), v=(6, 3))), tmp_path)
    (told,) = [text for text in compressed(path).report["warnings"] if "computes" in text]
    assert told.startswith("1 of 2 weights are not in the sparsity: the graph computes them from")
    assert "(first 'w')" in told
