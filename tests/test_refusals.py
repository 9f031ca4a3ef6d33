"""What compress refuses, in one clear line, and what is too little and yet enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from compression import PRUNABLE, QUICK, SEARCHED, UNTRAINED, compress, floor_of, zeros_in
from small_networks import CLASSIFIER, classifier, classifier_tensors, images, network, saved

import onnx_unipts
from onnx_unipts.graph.errors import OnnxUniptsError, UnsupportedModelError, UsageError

pytestmark = pytest.mark.usefixtures("quick_simplification")


def spoiled(name: str, value: float) -> onnx.ModelProto:
    tensors = classifier_tensors()
    tensors[name].reshape(-1)[0] = value
    return network(CLASSIFIER, tensors)


def refused(
    error: type[OnnxUniptsError],
    code: int,
    message: str,
    directory: Path,
    *args: Any,
    **options: Any,
) -> None:
    """The call fails in one clear line, and leaves nothing behind."""
    with pytest.raises(error, match=message) as caught:
        compress(*args, directory=directory, **options)
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)
    assert "please report it" not in str(caught.value)
    assert not (directory / "m.sparse.onnx").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["w2", "b1"])
@pytest.mark.parametrize("epochs", [0, 1])
def test_weights_that_are_not_finite_are_refused_by_name(
    value: float, name: str, epochs: int, tmp_path: Path
):
    if np.isinf(value) and name == "b1":
        pytest.skip("infinity may be meant, outside of weights")
    model = spoiled(name, value)
    chosen = QUICK | {"training.epochs": epochs}
    refused(
        UnsupportedModelError, 4, rf"{name}.* NaN|{name}.*infinit", tmp_path, model, settings=chosen
    )


def test_a_model_with_nothing_to_prune_is_refused(tmp_path: Path):
    model = network("net (float[N,3,8,8] x) => (float[N,3,8,8] y) { y = Relu (x) }", {})
    refused(UnsupportedModelError, 4, "no prunable weight", tmp_path, model)


def test_a_model_with_everything_excluded_is_refused(tmp_path: Path):
    chosen = QUICK | {"exclude": ["w"]}
    refused(UnsupportedModelError, 4, "excluded", tmp_path, classifier(), settings=chosen)


def test_too_few_samples_for_a_batch_make_it_smaller(tmp_path: Path):
    result = compress(classifier(), tmp_path, QUICK, data={"x": images(15)})
    assert result.report["recipe"]["training"]["batch_size"] == 3
    assert result.report["training"]["steps"] == 5 * result.report["recipe"]["training"]["epochs"]
    assert any("do not fill a batch" in text for text in result.report["warnings"])


def test_fewer_samples_than_a_search_batch_are_enough(tmp_path: Path):
    chosen = SEARCHED | {"allocation.search.samples": 1000}
    result = compress(classifier(), tmp_path, chosen, data={"x": images(17)})
    search = result.report["search"]
    assert search["images"] == 17 * search["evaluations"] > 0


def test_one_sample_is_enough_where_nothing_is_trained(tmp_path: Path):
    result = compress(classifier(), tmp_path, UNTRAINED, data={"x": images(1)})
    assert result.output is not None
    assert zeros_in(result.output, "w1", "w2", "w3") == floor_of(0.8, PRUNABLE)


def test_fitness_by_accuracy_needs_labels(tmp_path: Path):
    chosen = SEARCHED | {"allocation.search.fitness": "accuracy"}
    refused(
        UsageError, 2, "needs labelled calibration data", tmp_path, classifier(), settings=chosen
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SEARCHED | {"allocation.search.fitness": "accuracy"}, "needs labelled calibration data"),
        (
            QUICK | {"allocation.method": "{run}/allocation.json"},
            "247 too many: sparsity 0.8",
        ),
    ],
)
def test_a_run_that_is_refused_leaves_the_one_before(
    settings: dict[str, Any], message: str, tmp_path: Path
):
    compress(classifier(), tmp_path, UNTRAINED, sparsity=0.5)
    run = tmp_path / "m.sparse.run"
    before = {file.name: file.read_bytes() for file in run.iterdir()}
    given = {k: str(v).format(run=run) if k.endswith("method") else v for k, v in settings.items()}
    with pytest.raises(UsageError, match=message):
        compress(tmp_path / "m.onnx", tmp_path, given)
    assert {file.name: file.read_bytes() for file in run.iterdir()} == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("allocation.method", "nonesuch"),
        ("allocation.search.fitness", "nonesuch"),
        ("allocation.search.starts", ["nonesuch"]),
        ("training.objective", "nonesuch"),
        ("pattern", "nonesuch"),
        ("training.losses", {"nonesuch": "kl"}),
    ],
)
def test_an_unknown_plugin_is_refused_before_anything_long(key: str, value: Any, tmp_path: Path):
    chosen = SEARCHED | {key: value}
    refused(UsageError, 2, "nonesuch", tmp_path, classifier(), settings=chosen)
    assert not (tmp_path / "m.sparse.run").exists()


def test_a_search_is_no_start_of_a_search(tmp_path: Path):
    chosen = SEARCHED | {"allocation.search.starts": ["lamp", "evolutionary"]}
    refused(UsageError, 2, "'evolutionary' is a search", tmp_path, classifier(), settings=chosen)


def test_an_unknown_backend_is_refused(tmp_path: Path):
    refused(
        UsageError, 2, "'nonesuch'; known: threading", tmp_path, classifier(), backend="nonesuch"
    )


def test_an_unknown_format_is_refused_before_any_data_is_read(tmp_path: Path):
    message = "unknown format 'nonesuch'"
    data = tmp_path / "missing.npz"
    refused(UsageError, 2, message, tmp_path, classifier(), data=data, format="nonesuch")


@pytest.mark.parametrize("call", ["sweep", "compress_to"])
def test_a_pattern_that_prescribes_the_sparsity_leaves_none_to_try(call: str, tmp_path: Path):
    tried: dict[str, Any] = {"sweep": [0.5, 0.9], "compress_to": "drop=1%"}
    with pytest.raises(UsageError, match=r"pattern 2:4 prescribes the sparsity 0\.5; leave the"):
        getattr(onnx_unipts, call)(
            saved(classifier(), tmp_path), tried[call], data={"x": images()},
            settings=UNTRAINED | {"pattern": "2:4"},
        )  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize(
    ("settings", "sparsity", "warning"),
    [
        ({"exclude": ["nonesuch"]}, 0.5, "exclude 'nonesuch' matches no weight"),
        ({"pattern": "2:4"}, 0.5, "allocation lamp has no effect: the pattern 2:4 prescribes"),
        ({"allocation.minimum": 0.3}, 0.8, "allocation.minimum 0.3 is more than what is kept"),
        ({"pattern": "8x8"}, 0.05, "10.07% of the weights are zero already"),
        ({}, 0.05, "10.07% of the weights are zero already: more than 5.00%"),
    ],
)
def test_what_has_no_effect_is_said(
    settings: dict[str, Any], sparsity: float, warning: str, tmp_path: Path
):
    tensors = classifier_tensors()
    tensors["w2"][0] = 0
    tensors["w1"].reshape(-1)[:11] = 0
    model = network(CLASSIFIER, tensors)
    result = compress(model, tmp_path, UNTRAINED | settings, sparsity=sparsity)
    (said,) = [text for text in result.report["warnings"] if warning in text]
    assert "\n" not in said


def test_answers_are_counted_for_the_losses_that_are_asked_for(tmp_path: Path):
    chosen = SEARCHED | {"allocation.search.fitness": "accuracy", "training.losses": {"y": "mse"}}
    labelled = {"x": images(), "labels": np.zeros(48, int)}
    message = "needs a model with class scores"
    refused(UsageError, 2, message, tmp_path, classifier(), settings=chosen, data=labelled)
    assert not (tmp_path / "m.sparse.run").exists()
