"""From a model file to a sparse one: exact, the user's own, reproducible, and safe to interrupt."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_networks import (
    CLASSIFIER,
    PERCEPTRON,
    classifier,
    classifier_tensors,
    images,
    network,
    normalized,
    outputs,
    perceptron,
    saved,
    simplify_here,
)

from onnx_unipts import api, finish
from onnx_unipts.allocation import ALLOCATORS, Problem
from onnx_unipts.graph import cleanup
from onnx_unipts.graph.errors import (
    OnnxUniptsError,
    TargetMissedError,
    UnsupportedModelError,
    UsageError,
)
from onnx_unipts.recipe import load_recipe

PRUNABLE = 824
QUICK: dict[str, Any] = {
    "training.adaptation": 0,
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


@pytest.fixture(scope="module", autouse=True)
def _quick_simplification() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cleanup, "run_onnxsim", simplify_here)
        yield


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


# The outcome


MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], Any, tuple[str, ...]]] = {
    "folded normalisations": (classifier, None, ("w1", "w2", "w3")),
    "kept normalisations": (normalized, None, ("w1", "w2", "w3")),
    "matrix products": (perceptron, {"x": vectors()}, ("w1", "w2")),
    "an older opset": (
        lambda: network(CLASSIFIER, classifier_tensors(), opset=11, ir_version=6),
        None,
        ("w1", "w2", "w3"),
    ),
    "a newer opset": (
        lambda: network(CLASSIFIER, classifier_tensors(), opset=21, ir_version=10),
        None,
        ("w1", "w2", "w3"),
    ),
    "no bias": (
        lambda: network(
            CLASSIFIER.replace("(x, w1, b1)", "(x, w1)").replace("(r1, w2, b2)", "(r1, w2)"),
            {n: t for n, t in classifier_tensors().items() if n not in ("b1", "b2")},
        ),
        None,
        ("w1", "w2", "w3"),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_sparse_model_is_the_users_model_with_exactly_the_zeros(name: str, tmp_path: Path):
    make, data, pruned = MODELS[name]
    model = make()
    model.graph.node[0].name = "the first"
    model.producer_name, model.doc_string = "somebody", "of theirs"
    result = compress(model, tmp_path, data=data)
    assert result.output == tmp_path / "m.sparse.onnx"
    sparse = onnx.load(result.output)
    onnx.checker.check_model(sparse)
    for field in ("ir_version", "opset_import", "producer_name", "doc_string"):
        assert getattr(sparse, field) == getattr(model, field)
    for field in ("name", "input", "output"):
        assert getattr(sparse.graph, field) == getattr(model.graph, field)
    kinds = [(node.op_type, node.name, node.output) for node in sparse.graph.node]
    assert kinds == [(node.op_type, node.name, node.output) for node in model.graph.node]
    before, after = initializers(tmp_path / "m.onnx"), initializers(result.output)
    total = sum(before[key].size for key in pruned)
    assert zeros_in(result.output, *pruned) == floor_of(0.8, total)
    for key, tensor in before.items():
        assert after[key].shape == tensor.shape
        assert after[key].dtype == tensor.dtype
    assert all(name.removesuffix("/bias") in before for name in after)
    x = (data or {"x": images()})["x"]
    for batch in (1, 7):
        (y,) = outputs(result.output, {"x": x[:batch]})
        assert y.shape == (batch, 4)
        assert np.isfinite(y).all()


@given(
    thousandths=st.integers(1, 999),
    hidden=st.integers(1, 7),
    method=st.sampled_from(["uniform", "erk", "global", "lamp"]),
)
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_zeros_are_the_floor_of_the_target_for_any_target(
    tmp_path: Path, thousandths: int, hidden: int, method: str
):
    rng = np.random.default_rng(hidden)
    shapes = {"w1": (10, hidden), "b1": (hidden,), "w2": (hidden, 4), "b2": (4,)}
    tensors = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    sparsity = thousandths / 1000
    result = compress(
        network(PERCEPTRON, tensors),
        tmp_path,
        UNTRAINED | {"allocation.method": method},
        sparsity=sparsity,
        data={"x": vectors()},
    )
    assert result.output is not None
    zeros = floor_of(sparsity, 14 * hidden)
    assert zeros_in(result.output, "w1", "w2") == zeros
    assert result.report["sparsity"]["zeros"] == zeros


@pytest.mark.parametrize("method", ["uniform", "erk", "global", "lamp", "evolutionary"])
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


def test_pruned_are_the_smallest_weights_where_nothing_is_trained(tmp_path: Path):
    chosen = UNTRAINED | {"allocation.method": "global"}
    result = compress(perceptron(), tmp_path, chosen, data={"x": vectors()})
    assert result.output is not None
    before, after = initializers(tmp_path / "m.onnx"), initializers(result.output)
    magnitudes = np.concatenate([np.abs(before[name]).ravel() for name in ("w1", "w2")])
    threshold = np.sort(magnitudes)[floor_of(0.8, 224)]
    for name in ("w1", "w2"):
        expected = np.where(np.abs(before[name]) >= threshold, before[name], 0)
        np.testing.assert_array_equal(after[name], expected)
    np.testing.assert_array_equal(after["b1"], before["b1"])


def test_excluded_layers_stay_as_they_are(tmp_path: Path):
    result = compress(classifier(), tmp_path, QUICK | {"exclude": ["w2"]})
    assert result.output is not None
    before, after = initializers(tmp_path / "m.onnx"), initializers(result.output)
    np.testing.assert_array_equal(after["w2"], before["w2"])
    assert zeros_in(result.output, "w1", "w3") == floor_of(0.8, PRUNABLE - before["w2"].size)


def test_training_recovers_what_pruning_cost(tmp_path: Path):
    longer = QUICK | {"training.epochs": 30, "training.augment": False}
    fidelity = compress(classifier(), tmp_path, longer).report["fidelity"]
    assert (
        fidelity["after_recovery"]["divergence"] < 0.5 * fidelity["before_recovery"]["divergence"]
    )


def test_several_inputs_are_compressed_together(tmp_path: Path):
    text = CLASSIFIER.replace("float[N,3,8,8] x", "float[N,3,8,8] x, float[N,8] u").replace(
        "y = Gemm <transB = 1> (f,", "g = Add (f, u) y = Gemm <transB = 1> (g,"
    )
    u = np.random.default_rng(0).standard_normal((48, 8)).astype(np.float32)
    model = network(text, classifier_tensors())
    result = compress(model, tmp_path, SEARCHED, data={"x": images(), "u": u})
    assert result.output is not None
    assert zeros_in(result.output, "w1", "w2", "w3") == floor_of(0.8, PRUNABLE)


ODD: dict[str, Callable[[], onnx.ModelProto]] = {
    "a fixed batch of one": lambda: network(CLASSIFIER.replace("[N,", "[1,"), classifier_tensors()),
    "half precision": lambda: network(
        CLASSIFIER.replace("float[", "float16["),
        {name: value.astype(np.float16) for name, value in classifier_tensors().items()},
    ),
    "a bias added behind, as TensorFlow exports": lambda: network(
        CLASSIFIER.replace(
            "c1 = Conv <pads = [1,1,1,1]> (x, w1, b1)",
            "c0 = Conv <pads = [1,1,1,1]> (x, w1) c1 = Add (c0, b1)",
        ),
        classifier_tensors() | {"b1": classifier_tensors()["b1"].reshape(1, 8, 1, 1)},
    ),
    "scores and their softmax": lambda: network(
        CLASSIFIER.replace("float[N,4] y", "float[N,4] y, float[N,4] q").replace(
            "w3, b3)", "w3, b3) q = Softmax <axis = 1> (y)"
        ),
        classifier_tensors(),
    ),
    "a scalar output beside the scores": lambda: network(
        CLASSIFIER.replace("float[N,4] y", "float[N,4] y, float s").replace(
            "w3, b3)", "w3, b3) s = ReduceMean <keepdims = 0> (y)"
        ),
        classifier_tensors(),
    ),
    "a layer of zeros": lambda: network(
        CLASSIFIER, classifier_tensors() | {"w2": np.zeros((8, 8, 3, 3), np.float32)}
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_models_are_compressed_to_the_target(name: str, tmp_path: Path):
    model = ODD[name]()
    dtype = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    result = compress(model, tmp_path, data={"x": images().astype(dtype)})
    assert result.output is not None
    pruned = ("w1", "w2", "w3")
    already = zeros_in(tmp_path / "m.onnx", *pruned)
    assert zeros_in(result.output, *pruned) == max(floor_of(0.8, PRUNABLE), already)


@pytest.mark.parametrize("normalised", [False, True])
def test_what_no_gradient_reaches_is_pruned_and_named(normalised: bool, tmp_path: Path):
    """Here the layers behind an operator that has no gradient."""
    tail = "w3, b3) c4 = Conv <pads = [1,1,1,1]> (r1, w4)"
    tail += " n4 = BatchNormalization (c4, s, b1, b2, v)" if normalised else " n4 = Relu (c4)"
    text = CLASSIFIER.replace("float[N,4] y", "float[N,4] y, float[N,8,8,8] k").replace(
        "w3, b3)", f"{tail} k = Hardmax <axis = 1> (n4)"
    )
    tensors = classifier_tensors() | {"w4": classifier_tensors(1)["w2"]}
    if normalised:
        tensors |= {"s": np.ones(8, np.float32), "v": np.ones(8, np.float32)}
    result = compress(network(text, tensors), tmp_path, QUICK | {"training.epochs": 10})
    assert result.output is not None
    assert zeros_in(result.output, "w1", "w2", "w3", "w4") == floor_of(0.8, PRUNABLE + 576)
    assert "w4" in result.report["training"]["untrained"]
    assert "w1" not in result.report["training"]["untrained"]
    assert any("w4" in warning for warning in result.report["warnings"])


def test_a_closing_logsoftmax_does_not_hide_what_pruning_costs(tmp_path: Path):
    text = CLASSIFIER.replace("y = Gemm", "z = Gemm").replace(
        "w3, b3)", "w3, b3) y = LogSoftmax <axis = 1> (z)"
    )
    result = compress(network(text, classifier_tensors()), tmp_path, UNTRAINED, sparsity=0.95)
    assert result.report["fidelity"]["before_recovery"]["divergence"] > 0.1


# The record


def test_the_run_leaves_report_allocation_journal_and_checkpoints(tmp_path: Path):
    labels = np.arange(48) % 4
    result = compress(classifier(), tmp_path, SEARCHED, data={"x": images(), "labels": labels})
    assert result.run_dir == tmp_path / "m.sparse.run"
    report = json.loads((result.run_dir / "report.json").read_text())
    assert report == json.loads(json.dumps(result.report))
    assert report["model"]["path"] == str(tmp_path / "m.onnx")
    assert report["output"].keys() >= {"path", "sha256", "bytes", "bytes_zipped"}
    assert report["output"]["bytes"] == result.output.stat().st_size  # type: ignore[union-attr]
    assert report["seed"] == 0
    assert report["recipe"]["sparsity"] == 0.8
    assert report["versions"]
    assert report["command"]
    (warning,) = report["warnings"]
    assert "answers class 0 for all of 48 samples" in warning  # so it does, with random weights
    sparsity = report["sparsity"]
    zeros = floor_of(0.8, PRUNABLE)
    assert (sparsity["target"], sparsity["weights"], sparsity["zeros"]) == (0.8, PRUNABLE, zeros)
    assert sparsity["achieved"] == pytest.approx(zeros / PRUNABLE)
    assert [layer["name"] for layer in sparsity["per_layer"]] == ["w1", "w2", "w3"]
    assert sum(layer["zeros"] for layer in sparsity["per_layer"]) == zeros
    for stage in ("before_recovery", "after_recovery"):
        assert report["fidelity"][stage].keys() >= {"divergence", "agreement"}
        low, high = report["accuracy"]["interval"][stage]
        assert low <= report["accuracy"][stage] <= high
    assert 0 <= report["accuracy"]["dense"] <= 1
    time = report["time"]
    assert time["total_seconds"] >= time["search_seconds"] + time["training_seconds"] > 0
    search = report["search"]
    assert search["images"] == 32 * search["evaluations"]
    assert search["best_by_generation"] == sorted(search["best_by_generation"])
    assert len(search["best_by_generation"]) == 4
    assert report["training"]["steps"] == len(report["training"]["loss"]) == 3
    assert report["training"]["images"] == 48
    assert report["memory_peak_bytes"] > 10_000_000
    journal = (result.run_dir / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in journal].count("generation") == 4
    assert (result.run_dir / "checkpoint-training.npz").is_file()


def test_the_report_says_what_the_written_file_computes(tmp_path: Path):
    result = compress(classifier(), tmp_path, eval_data={"x": images(30, seed=5)})
    assert result.output is not None
    feeds = {"x": images(30, seed=5)}
    dense, sparse = (outputs(path, feeds)[0] for path in (tmp_path / "m.onnx", result.output))
    p, q = (np.exp(z.astype(np.float64)) for z in (dense, sparse))
    p, q = (e / e.sum(axis=1, keepdims=True) for e in (p, q))
    after = result.report["fidelity"]["after_recovery"]
    assert after["samples"] == 30
    assert after["divergence"] == pytest.approx((p * np.log(p / q)).sum(axis=1).mean(), rel=1e-3)
    agreement = (dense.argmax(axis=1) == sparse.argmax(axis=1)).mean()
    assert after["agreement"] == pytest.approx(agreement)


def saved_externally(model: onnx.ModelProto, directory: Path) -> Path:
    path = directory / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=64)
    return path


def test_weights_in_a_data_file_stay_in_one_and_count_in_the_sizes(tmp_path: Path):
    path = saved_externally(classifier(), tmp_path)
    result = compress(path, tmp_path, UNTRAINED)
    assert result.output is not None
    assert zeros_in(result.output, "w1", "w2", "w3") == floor_of(0.8, PRUNABLE)
    output_data = tmp_path / "m.sparse.onnx.data"
    for side, files in (
        ("model", (path, tmp_path / "weights.bin")),
        ("output", (result.output, output_data)),
    ):
        size = sum(file.stat().st_size for file in files)
        assert result.report[side]["bytes"] == size


def test_a_dry_run_writes_nothing(tmp_path: Path):
    result = compress(classifier(), tmp_path, dry_run=True)
    assert result.output is None
    assert result.report["sparsity"]["weights"] == PRUNABLE
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_without_data_synthetic_inputs_serve_and_the_report_warns(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    chosen = UNTRAINED | {"num_samples": 64}
    result = api.compress(path, sparsity=0.9, settings=chosen, jobs=1, format="dense")
    assert result.output is not None
    assert zeros_in(result.output, "w1", "w2", "w3") == floor_of(0.9, PRUNABLE)
    assert any("synthetic" in warning for warning in result.report["warnings"])


def test_the_search_alone_is_gone_on_from(tmp_path: Path):
    path = saved(classifier(), tmp_path)
    options: dict[str, Any] = {
        "sparsity": 0.8, "data": {"x": images()}, "settings": SEARCHED, "jobs": 2,
    }  # fmt: skip
    found = api.search(path, **options)
    assert found.output is None
    allocation = json.loads((found.run_dir / "allocation.json").read_text())
    result = api.compress(path, **options, resume=True)
    assert result.report["search"]["evaluations"] == found.report["search"]["evaluations"]
    assert json.loads((result.run_dir / "allocation.json").read_text()) == allocation


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


# The same result again


def test_cores_change_nothing_where_the_replicas_stay_the_same(tmp_path: Path):
    odd = SEARCHED | {"training.batch_size": 15}
    files = []
    for cores in (1, 2):
        (tmp_path / str(cores)).mkdir()
        result = compress(classifier(), tmp_path / str(cores), odd, jobs=cores)
        assert result.output is not None
        files.append(result.output.read_bytes())
    assert files[0] == files[1]


def test_a_run_of_other_replicas_is_not_resumed(tmp_path: Path):
    chosen = UNTRAINED | {"training.batch_size": 64}
    compress(classifier(), tmp_path, chosen, jobs=1)
    with pytest.raises(UsageError, match="replicas was 1, is 2"):
        compress(tmp_path / "m.onnx", tmp_path, chosen, jobs=2, resume=True)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"sparsity": 0.7}, "sparsity"),
        ({"settings": UNTRAINED | {"seed": 1}}, "recipe.seed"),
        ({"data": {"x": images(seed=3)}}, "data.sha256"),
        ({"data": {"x": images(), "labels": np.arange(48) % 4}}, "data.sha256"),
    ],
)
def test_another_run_is_not_resumed(change: dict[str, Any], key: str, tmp_path: Path):
    compress(classifier(), tmp_path, UNTRAINED)
    with pytest.raises(UsageError, match=key):
        compress(tmp_path / "m.onnx", tmp_path, **({"settings": UNTRAINED} | change), resume=True)


def test_a_run_of_other_external_weights_is_not_resumed(tmp_path: Path):
    path = saved_externally(classifier(), tmp_path)
    compress(path, tmp_path, UNTRAINED)
    content = bytearray((tmp_path / "weights.bin").read_bytes())
    content[400:404] = np.float32(0.5).tobytes()
    (tmp_path / "weights.bin").write_bytes(content)
    with pytest.raises(UsageError, match=r"model.* was .*, is "):
        compress(path, tmp_path, UNTRAINED, resume=True)


# Kills

KILLED_RUN = SEARCHED | {"training.epochs": 3, "allocation.search.generations": 4}

CHILD = """
    import json, os, signal, sys
    import numpy as np
    import onnx_unipts
    from onnx_unipts.progress import Quiet

    model, data, settings, phase, count, event, ending = sys.argv[1:]

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    class Killed(Quiet):
        # Progress that ends the process at one step of one phase.
        def phase(self, name, total, completed=0):
            made = super().phase(name, total, completed)
            steps = []
            def advance(n=1, **fields):
                steps.append(n)
                if name == phase and len(steps) == int(count):
                    die()
            made.advance = advance
            return made

    def watch(happening, arguments):
        # The path that is opened, or the new name.
        if happening == event and str(arguments[event == "os.rename"]).endswith(ending):
            die()

    if event:
        sys.addaudithook(watch)
    onnx_unipts.compress(
        model, sparsity=0.8, data={"x": np.load(data)}, settings=json.loads(settings), jobs=2,
        format="dense", progress=Killed(),
    )
"""

KILLS = {
    "in the search, after the first generation": ("search", 1, "", ""),
    "in the first epoch": ("training", 2, "", ""),
    "in the second epoch": ("training", 5, "", ""),
    "as a checkpoint is replaced": ("", 0, "os.rename", "checkpoint-training.npz"),
    "as the output is begun": ("", 0, "open", ".m.sparse.onnx.partial"),
    "as the output is moved into place": ("", 0, "os.rename", "m.sparse.onnx"),
    "as the report is written": ("", 0, "os.rename", "report.json"),
}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[float]]:
    """Return the file of a run that nothing disturbed, and its losses."""
    result = compress(classifier(), tmp_path_factory.mktemp("unbroken"), KILLED_RUN)
    assert result.output is not None
    return result.output.read_bytes(), result.report["training"]["loss"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("when", KILLS)
def test_a_killed_run_leaves_no_half_file_and_resumes_to_the_same_bits(
    when: str, unbroken: tuple[bytes, list[float]], tmp_path: Path
):
    model = saved(classifier(), tmp_path)
    np.save(tmp_path / "x.npy", images())
    phase, count, event, ending = KILLS[when]
    arguments = [model, tmp_path / "x.npy", json.dumps(KILLED_RUN), phase, count, event, ending]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CHILD), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    output = tmp_path / "m.sparse.onnx"
    assert output.exists() == (ending == "report.json")
    if output.exists():
        assert output.read_bytes() == unbroken[0]
    assert not (tmp_path / "m.sparse.run" / "report.json").exists()
    result = compress(model, tmp_path, KILLED_RUN, resume=True)
    assert output.read_bytes() == unbroken[0]
    assert result.report["training"]["loss"] == unbroken[1]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"m.onnx", "x.npy", "m.sparse.onnx", "m.sparse.run"}


def test_the_same_seed_gives_the_same_file_and_so_does_resuming_what_is_finished(
    unbroken: tuple[bytes, list[float]], tmp_path: Path
):
    model = saved(classifier(), tmp_path)
    for resume in (False, True):
        result = compress(model, tmp_path, KILLED_RUN, resume=resume)
        assert result.output is not None
        assert result.output.read_bytes() == unbroken[0]


# What is refused


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
    ("key", "value"),
    [
        ("allocation.method", "nonesuch"),
        ("allocation.search.fitness", "nonesuch"),
        ("allocation.search.starts", ["nonesuch"]),
        ("training.objective", "nonesuch"),
        ("pattern", "nonesuch"),
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


def test_training_at_a_wild_rate_falls_back_on_a_lower_one_or_on_none(tmp_path: Path):
    wild = QUICK | {"training.epochs": 40, "training.learning_rate": 10.0}
    result = compress(perceptron(), tmp_path, wild, data={"x": 1e6 * vectors()})
    assert any("at a learning rate of 10" in warning for warning in result.report["warnings"])
    fidelity = result.report["fidelity"]
    after, before = (fidelity[f"{stage}_recovery"]["divergence"] for stage in ("after", "before"))
    assert after <= before


# What is verified


@pytest.mark.parametrize("end", ["scores", "softmax"])
def test_a_file_that_does_not_compute_what_was_trained_is_not_left(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def spoil(student: Any, model: Any, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return write_back(student, model, tensors | {"b3": tensors["b3"] + [3, 0, 0, 0]})

    write_back = finish.write_back
    monkeypatch.setattr(finish, "write_back", spoil)
    text = CLASSIFIER
    if end == "softmax":
        text = text.replace("y = Gemm", "z = Gemm").replace(
            "w3, b3)", "w3, b3) y = Softmax <axis = 1> (z)"
        )
    path = saved_externally(network(text, classifier_tensors()), tmp_path)
    (tmp_path / "m.sparse.onnx").write_bytes(b"an earlier result")
    with pytest.raises(OnnxUniptsError, match="output y differs"):
        compress(path, tmp_path)
    assert (tmp_path / "m.sparse.onnx").read_bytes() == b"an earlier result"
    left = {found.name for found in tmp_path.iterdir()}
    assert left == {"m.onnx", "weights.bin", "m.sparse.onnx", "m.sparse.run"}


def test_a_file_of_other_zeros_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def spoil(student: Any, model: Any, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return write_back(student, model, tensors | {"w3": tensors["w3"] + np.float32(1e-6)})

    write_back = finish.write_back
    monkeypatch.setattr(finish, "write_back", spoil)
    with pytest.raises(TargetMissedError, match="w3 keeps 32 values"):
        compress(classifier(), tmp_path)
    assert not (tmp_path / "m.sparse.onnx").exists()


# The published method


def test_the_papers_recipe_runs_with_smaller_budgets(tmp_path: Path):
    small = {key: value for key, value in SEARCHED.items() if "method" not in key}
    labels = np.arange(48) % 4
    result = compress(
        classifier(),
        tmp_path,
        small | {"num_samples": 48},
        data={"x": images(), "labels": labels},
        recipe=load_recipe("unipts-paper"),
    )
    assert result.output is not None
    assert zeros_in(result.output, "w1", "w2", "w3") == floor_of(0.8, PRUNABLE)
    assert result.report["recipe"]["training"]["objective"] == "base-decayed-kl"


# Comparing files


def test_two_files_are_compared(tmp_path: Path):
    result = compress(classifier(), tmp_path, UNTRAINED)
    assert result.output is not None
    document = api.evaluate(tmp_path / "m.onnx", result.output, data={"x": images()})
    after = result.report["fidelity"]["after_recovery"]
    assert document["fidelity"]["sparse"]["divergence"] == pytest.approx(after["divergence"])
    assert document["sparsity"]["zeros"] == floor_of(0.8, PRUNABLE)


def test_files_of_different_signatures_are_not_compared(tmp_path: Path):
    other_outputs = network(
        CLASSIFIER.replace("y)", "q)").replace("y =", "q ="), classifier_tensors()
    )
    with pytest.raises(UsageError, match="outputs are q"):
        api.evaluate(
            saved(classifier(), tmp_path),
            saved(other_outputs, tmp_path, "q.onnx"),
            data={"x": images()},
        )
