"""What rewriting for gradients leaves alone, replaces, cuts off, names and says."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from gradient_checks import TOLERANCE, gradients, proto_of, run, worst_error
from onnx import parser
from operator_cases import CASES, Case, ints, spread

from onnx_unipts.graph.cleanup import clean, freeze_batch
from onnx_unipts.graph.differentiable import make_differentiable, reached_inputs, stop_gradients
from onnx_unipts.graph.model import load_model, serialize
from onnx_unipts.training.ort import inference_session

SHARED = Path(__file__).parents[2] / "shared"


def model_of(body: str, inputs: str = "float[2,3,4] x", opset: int = 17) -> ir.Model:
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>'
    proto = parser.parse_model(f"{header} g ({inputs}) => (float[a,b,c] y) {{ {body} }}")
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_the_log_names_the_operator_the_node_and_what_took_its_place():
    model = model_of("a = Relu (x) y = HardSwish (a)")
    model.graph[1].name = "act"
    assert make_differentiable(model) == ["HardSwish act: x * Clip(x / 6 + 1/2, 0, 1)"]


def test_names_of_outputs_stay():
    model = model_of("a = HardSwish (x) y = Dropout (a)")
    make_differentiable(model)
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert "a" in {value.name for node in model.graph for value in node.outputs}


def test_operators_with_a_right_gradient_are_left_alone():
    model = model_of("a = Relu (x) b = Softmax (a) y = Mul (a, b)")
    assert make_differentiable(model) == []
    assert operators(model) == ["Relu", "Softmax", "Mul"]


def test_integers_are_left_alone():
    model = model_of("i = Cast <to = 7> (x) m = ReduceMax (i) f = Cast <to = 1> (m) y = Add (x, f)")
    assert make_differentiable(model) == []


def test_a_normalisation_that_trains_is_left_alone():
    parameters = ", ".join(f"float[3] {name}" for name in "sbmv")
    model = model_of(
        "y, r, t = BatchNormalization <training_mode = 1> (x, s, b, m, v)",
        f"float[2,3,4] x, {parameters}",
    )
    assert make_differentiable(model) == []


def test_a_node_that_cannot_be_rewritten_stays_and_the_logger_says_why(caplog):
    model = model_of('e = Einsum <equation = "bii->bi"> (x) y = Mul (x, e)', "float[3,3,3] x")
    model.graph[0].name = "diagonal"
    with caplog.at_level(logging.INFO):
        assert make_differentiable(model) == []
    assert "Einsum diagonal is left as it is: the equation bii->bi takes a diagonal" in caplog.text
    assert operators(model) == ["Einsum", "Mul"]


@pytest.mark.parametrize("mode", ["yes", "asked"])
def test_a_dropout_that_may_drop_is_left_as_it_is(mode: str, caplog):
    body = f"yes = Constant <value = bool {{1}}> () y = Dropout (x, , {mode})"
    model = model_of(body, "float[2,3,4] x, bool asked")
    with caplog.at_level(logging.INFO):
        assert make_differentiable(model) == []
    assert "it drops values in inference, too" in caplog.text


def test_a_dropout_that_is_told_not_to_drop_is_rewritten():
    model = model_of("no = Constant <value = bool {0}> () y = Dropout (x, , no)")
    make_differentiable(model)
    assert "Dropout" not in operators(model)


@pytest.mark.parametrize("kind", [onnx.TensorProto.INT4, onnx.TensorProto.FLOAT8E4M3FN])
def test_numbers_of_few_bits_are_left_as_they_are(kind: int, caplog):
    """Both are valid, and no reason to train nothing of a model."""
    body = f"q = QuantizeLinear <output_dtype = {kind}> (x, s) y = DequantizeLinear (q, s)"
    model = model_of(body, "float[2,3,4] x, float s", opset=21)
    with caplog.at_level(logging.INFO):
        assert make_differentiable(model) == []
    assert "it is quantised to" in caplog.text


def test_unknown_shapes_are_a_reason_to_leave_a_node(caplog):
    model = model_of("y = DepthToSpace <blocksize = 2> (x)", "float[n,c,h,w] x")
    with caplog.at_level(logging.INFO):
        assert make_differentiable(model) == []
    assert "the shape of x is not static" in caplog.text


def test_a_value_read_in_a_branch_is_replaced_there_too():
    body = """
        a = HardSwish (x)
        y = If (c) <then_branch = yes () => (float[2,3,4] t) { t = Relu (a) },
                    else_branch = no () => (float[1,1,1] f) { f = ReduceSum (a) }>
    """
    model = model_of(body, "float[2,3,4] x, bool c")
    before = ir.to_proto(model)
    assert len(make_differentiable(model)) == 1
    for choice in (True, False):
        feeds = {"x": spread(2, 3, 4), "c": np.array(choice)}
        np.testing.assert_allclose(
            run(ir.to_proto(model), feeds), run(before, feeds), rtol=1e-5, atol=1e-6
        )


def test_what_nothing_reads_any_more_is_removed():
    proto = proto_of(CASES["quantised-signed"], CASES["quantised-signed"].body)
    model = ir.from_proto(proto)
    make_differentiable(model)
    assert "QuantizeLinear" not in operators(model)
    assert {"l", "h", "s"} >= {name for name in model.graph.initializers if len(name) == 1}


def test_half_precision_constants_have_the_type_of_the_node():
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]>'
        "g (float16[2,3] x) => (float16[2,3] y) { y = HardSwish (x) }"
    )
    model = ir.from_proto(onnx.shape_inference.infer_shapes(proto))
    make_differentiable(model)
    x = spread(2, 3).astype(np.float16)
    after = run(ir.to_proto(model), {"x": x})
    expected = x * np.clip(x.astype(np.float32) / 6 + 0.5, 0, 1)
    np.testing.assert_allclose(after, expected, rtol=1e-2)


def test_a_node_without_gradient_is_cut_off_and_the_rest_is_trained():
    body = (
        "d = MatMul (x, v) e = Det (d) u = Unsqueeze (e, a) s = MatMul (x, w) t = Mul (s, u) "
        "y = Add (t, s)"
    )
    values = {"x": spread(2, 3, 3), "v": spread(3, 3), "w": spread(3, 3)}
    case = Case(body, values, {"a": ints(1, 2)}, fixed=("x", "v"))
    proto = proto_of(case, body)
    model = ir.from_proto(proto)
    make_differentiable(model)
    assert stop_gradients(model, ["v", "w"]) == ["Det node1: has no gradient"]
    assert reached_inputs(model, ["y"]) == {"x", "w"}
    y = run(proto, values)
    np.testing.assert_allclose(run(ir.to_proto(model), values), y, rtol=1e-5)
    upstream = np.ones_like(y)
    found = gradients(model, case, upstream)
    assert worst_error(case, found, upstream) < TOLERANCE


def test_a_refused_node_is_cut_off_with_the_reason():
    model = model_of('e = Einsum <equation = "bii->bi"> (x) y = Mul (x, e)', "float[3,3,3] x")
    model.graph[0].name = "diagonal"
    make_differentiable(model)
    reason = "Einsum diagonal: the equation bii->bi takes a diagonal"
    assert stop_gradients(model, ["x"]) == [reason]
    assert stop_gradients(model, ["x"]) == [reason]


def test_a_branch_that_reads_a_parameter_is_cut_off():
    model = model_of(
        """y = If (c) <then_branch = yes () => (float[2,3,4] t) { t = Relu (x) },
                       else_branch = no () => (float[2,3,4] f) { f = Neg (x) }>""",
        "float[2,3,4] x, bool c",
    )
    model.graph[0].name = "branch"
    before = ir.to_proto(model)
    assert stop_gradients(model, ["x"]) == ["If branch: has no gradient"]
    assert reached_inputs(model, ["y"]) == set()
    assert [value.name for value in model.graph.outputs] == ["y"]
    feeds = {"x": spread(2, 3, 4), "c": np.array(True)}
    np.testing.assert_allclose(run(ir.to_proto(model), feeds), run(before, feeds), atol=2e-9)


@pytest.mark.parametrize(
    "path",
    [
        "exported/own_misc_gn_prelu_grouped__dyn20.onnx",
        "exported/own_crnn_gru__dyn18.onnx",
        "exported/own_unet_convT__dyn18.onnx",
        "exported/tv_mobilenetv3_small_050__ts17.onnx",
        "exported/paddle_shufflenetv2_x025__p2o13.onnx",
        "real/pfld.onnx",
    ],
)
def test_real_graphs_compute_the_same(path):
    if not (SHARED / "models" / path).is_file():
        pytest.skip("the shared models are absent")
    model = freeze_batch(clean(load_model(SHARED / "models" / path), []), 2)
    before = inference_session(serialize(model))
    assert make_differentiable(model)
    after = inference_session(serialize(model))
    feeds = {value.name: spread(*value.shape) for value in before.get_inputs()}
    for one, other in zip(before.run(None, feeds), after.run(None, feeds), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4 * max(1e-3, abs(one).max()))


def test_nothing_unused_is_left_behind(capfd):
    proto = proto_of(CASES["batchnorm"], CASES["batchnorm"].body)
    model = ir.from_proto(proto)
    make_differentiable(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 2
    onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    assert "not used" not in capfd.readouterr().err
