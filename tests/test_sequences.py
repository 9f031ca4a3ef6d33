"""Models with sequences of tensors as inputs or outputs are pruned, trained and run as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from small_networks import draw, network, saved

from onnx_unipts import api
from onnx_unipts.calibration import (
    input_signature,
    load_calibration_data,
    parse_input_shapes,
)
from onnx_unipts.cli import main
from onnx_unipts.graph.errors import UnsupportedModelError, UsageError
from onnx_unipts.graph.lookups import index_limits
from onnx_unipts.graph.model import load_model, save_model

QUICK: dict[str, Any] = {
    "training.epochs": 1,
    "allocation.method": "lamp",
    "num_samples": 24,
}
LAYERS = draw(0, w1=(6, 8), w2=(8, 4), wide=(18, 8), square=(4, 4))
END = "r = Relu (c) y = MatMul (r, w2)"
POSITIONS = f"""net (seq(float[N,6]) x) => (float[N,4] y) {{
    i = Constant <value_int = 0> () j = Constant <value_int = -3> ()
    a = SequenceAt (x, i) b = SequenceAt (x, j)
    s = Sub (a, b) d = Add (s, a) c = MatMul (d, w1) {END}
}}"""
JOINED = f"""net (seq(float[]) x) => (float[N,4] y) {{
    s = ConcatFromSequence <axis = 1> (x) c = MatMul (s, wide) {END}
}}"""
BETWEEN = f"""net (float[N,6] a, seq(float[N,6]) x, float[N,6] b)
=> (float[N,4] y, seq(float[N,6]) q) {{
    i = Constant <value_int = -1> () e = SequenceAt (x, i)
    s = Sum (a, e, b) c = MatMul (s, w1) {END} q = SequenceInsert (x, s)
}}"""
PUT_OUT = f"""net (float[N,6] x) => (seq(float[N,4]) q) {{
    c = MatMul (x, w1) {END}
    e = SequenceEmpty () one = SequenceInsert (e, y) q = SequenceInsert (one, y)
}}"""
LOOKED_UP = """net (seq(int64[N,5]) ids) => (float[N,5,4] y) {
    i = Constant <value_int = 0> () a = SequenceAt (ids, i)
    e = Gather <axis = 0> (w2, a) y = MatMul (e, square)
}"""


pytestmark = pytest.mark.usefixtures("quick_simplification")


def graph(text: str) -> onnx.ModelProto:
    return network(
        text, {name: t for name, t in LAYERS.items() if f"{name})" in text or f"({name}," in text}
    )


@pytest.mark.parametrize(
    ("text", "feeds"),
    [
        (POSITIONS, {"x": 3 * [(2, 6)]}),
        (JOINED, {"x": 2 * [(2, 9)]}),
        (BETWEEN, {"a": (2, 6), "x": [(2, 6)], "b": (2, 6)}),
        (PUT_OUT, {"x": (2, 6)}),
    ],
)
def test_they_are_pruned_exactly_trained_and_written_as_they_were(
    text: str, feeds: dict[str, Any], tmp_path: Path
):
    path = saved(graph(text), tmp_path)
    result = api.compress(path, sparsity=0.5, settings=QUICK, jobs=1)
    counts = result.report["sparsity"]
    assert counts["zeros"] == counts["weights"] // 2
    fidelity = result.report["fidelity"]
    assert result.report["training"]["untrained"] == []
    assert fidelity["after_recovery"]["divergence"] < fidelity["before_recovery"]["divergence"]
    sparse, dense = (onnx.load(str(file)) for file in (result.output, path))
    assert (sparse.graph.input, sparse.graph.output) == (dense.graph.input, dense.graph.output)
    assert [node.op_type for node in sparse.graph.node] == [n.op_type for n in dense.graph.node]
    session = onnxruntime.InferenceSession(str(result.output), providers=["CPUExecutionProvider"])
    session.run(
        None,
        {
            name: [np.ones(s, np.float32) for s in shape]
            if isinstance(shape, list)
            else np.ones(shape, np.float32)
            for name, shape in feeds.items()
        },
    )


def test_the_command_takes_arrays_by_position_and_lists(tmp_path: Path):
    path = saved(graph(POSITIONS), tmp_path)
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((24, 6)).astype(np.float32) for _ in range(3)]
    np.savez(tmp_path / "apart.npz", **{f"x[{i}]": array for i, array in enumerate(arrays)})
    np.savez(tmp_path / "stacked.npz", x=arrays)
    (tmp_path / "script.py").write_text(
        "import numpy as np\n"
        "def load_data():\n"
        f"    file = np.load({str(tmp_path / 'stacked.npz')!r})\n"
        "    yield {'x': list(file['x'])}\n"
    )
    reports = []
    for data in ("apart.npz", "stacked.npz", "script.py"):
        arguments = ["compress", str(path), "--sparsity", "0.5", "--data", str(tmp_path / data)]
        arguments += ["--epochs", "0", "--allocation", "lamp", "--json", "-q"]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        reports.append(json.loads(done.stdout)["fidelity"]["after_recovery"])
    assert reports[0] == reports[1] == reports[2]
    done = CliRunner().invoke(main, ["inspect", str(path), "--json"])
    assert json.loads(done.stdout)["inputs"] == [
        {"name": "x", "shape": ["N", 6], "dtype": "FLOAT", "sequence": True}
    ]


def test_a_list_of_another_length_is_refused(tmp_path: Path):
    specs = input_signature(load_model(saved(graph(POSITIONS), tmp_path)))
    array = np.ones((4, 6), np.float32)
    with pytest.raises(UsageError, match=r"'x' has 2 arrays, but the model is fed 3.*x\[0\], x"):
        load_calibration_data({"x": [array, array]}, specs)


def test_the_graph_says_how_many_elements_there_are_and_of_which_shape(tmp_path: Path):
    def shapes(text: str, given: str = "") -> dict[str, tuple]:
        model = load_model(saved(graph(text), tmp_path))
        specs = input_signature(model, parse_input_shapes([given] if given else []))
        return {spec.name: spec.shape for spec in specs}

    assert shapes(POSITIONS) == {f"x[{i}]": ("N", 6) for i in range(3)}
    assert shapes(JOINED) == {"x[0]": (None, 9), "x[1]": (None, 9)}
    assert shapes(JOINED.replace("float[]", "float[N,6]")) == {
        f"x[{i}]": ("N", 6) for i in range(3)
    }
    assert shapes(BETWEEN) == {"a": ("N", 6), "x[0]": ("N", 6), "b": ("N", 6)}
    free = "net (seq(float[N,K]) x) => (float[N,M] y) { y = ConcatFromSequence <axis = 1> (x) }"
    assert shapes(free, "x:1,7") == {"x[0]": ("N", 7), "x[1]": ("N", 7)}


def test_ids_in_a_sequence_stay_within_the_table(tmp_path: Path):
    model = load_model(saved(graph(LOOKED_UP), tmp_path))
    assert index_limits(model) == {"ids[0]": 8}


def test_quantised_and_packed_files_have_the_same_inputs(tmp_path: Path):
    path = saved(graph(POSITIONS), tmp_path)
    settings = {**QUICK, "training.epochs": 0}
    result = api.compress(path, sparsity=0.5, settings=settings, jobs=1, quantize="int8")
    assert onnx.load(str(result.output)).graph.input == onnx.load(path).graph.input
    with pytest.raises(UnsupportedModelError, match="sequence; use --format packed"):
        api.compress(path, sparsity=0.5, settings=settings, jobs=1, format="ort")


def test_a_model_that_is_read_and_saved_is_as_it_was(tmp_path: Path):
    path = saved(graph(BETWEEN), tmp_path)
    save_model(load_model(path), tmp_path / "again.onnx")
    again, before = (onnx.load(file).graph for file in (tmp_path / "again.onnx", path))
    assert (again.input, again.output) == (before.input, before.output)
    assert [node.output for node in again.node] == [node.output for node in before.node]
    assert "x" not in [info.name for info in again.value_info]
