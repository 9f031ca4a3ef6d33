"""A model that makes random numbers is compressed all the same, with a warning that names why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compression import PRUNABLE, QUICK, UNTRAINED, compress, floor_of
from small_networks import CLASSIFIER, classifier_tensors, network

from onnx_unipts.graph.model import from_proto
from onnx_unipts.graph.randomness import random_nodes

pytestmark = pytest.mark.usefixtures("quick_simplification")

NORMAL = "e = RandomNormalLike <dtype = 1> (c1) n = Add (c1, e)"
DROPOUT = "n = Dropout (c1, half, yes)"


def between(body: str) -> onnx.ModelProto:
    """Return the classifier with ``body`` between its first layers, from c1 to n."""
    told = {"half": np.float32(0.5), "yes": np.array(True), "no": np.array(False)}
    text = CLASSIFIER.replace("r1 = Relu (c1)", f"{body} r1 = Relu (n)")
    return network(text, classifier_tensors() | told)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (NORMAL, ["RandomNormalLike"]),
        ("[z] e = RandomUniformLike <seed = 3.0> (c1) n = Mul (c1, e)", ["RandomUniformLike z"]),
        ("[b] e = Bernoulli (half) n = Mul (c1, e)", ["Bernoulli b"]),
        ("t = Constant <value = bool {1}> () n = Dropout (c1, half, t)", ["Dropout"]),
        (DROPOUT, ["Dropout"]),
        (
            "n = If (no) <then_branch = a () => (float[N,8,8,8] p) { p = Dropout (c1, half, yes) },"
            " else_branch = b () => (float[N,8,8,8] q) { q = Identity (c1) }>",
            ["Dropout"],
        ),
        ("n = Dropout (c1, half, no)", []),
        ("n = Dropout (c1, half)", []),
        ("n = Dropout (c1)", []),
        ("n = Identity (c1)", []),
    ],
)
def test_random_are_operators_that_draw_and_a_dropout_that_works_as_in_training(
    body: str, found: list[str]
):
    assert random_nodes(from_proto(between(body))) == found


@pytest.mark.parametrize(
    ("settings", "options"), [(QUICK, {}), (UNTRAINED, {"format": None, "sparsity": 0.97})]
)
@pytest.mark.parametrize(("body", "told"), [(NORMAL, "RandomNormalLike"), (DROPOUT, "Dropout")])
def test_a_model_of_random_numbers_is_written_with_a_warning(
    body: str, told: str, settings: dict[str, Any], options: dict[str, Any], tmp_path: Path
):
    result = compress(between(body), tmp_path, settings, **options)
    assert result.output is not None
    onnx.checker.check_model(onnx.load(result.output))
    assert result.report["sparsity"]["zeros"] == floor_of(options.get("sparsity", 0.8), PRUNABLE)
    (warning,) = [text for text in result.report["warnings"] if "random numbers" in text]
    assert f"random numbers ({told})" in warning


def test_a_dropout_of_inference_is_no_reason_to_warn(tmp_path: Path):
    result = compress(between("n = Dropout (c1, half, no)"), tmp_path, UNTRAINED)
    assert not any("random numbers" in text for text in result.report["warnings"])
