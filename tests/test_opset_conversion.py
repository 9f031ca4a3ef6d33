"""Converting opsets: what the converter of the onnx package gets wrong or refuses."""

import numpy as np
import onnx.reference
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import parser

from onnx_unipts.graph.cleanup import runnable
from onnx_unipts.graph.equivalence import Equivalence
from onnx_unipts.graph.model import from_proto, serialize, to_proto
from onnx_unipts.graph.opset_conversion import convert_opset


def parse(text: str, opset: int) -> ir.Model:
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>\n'
    return from_proto(parser.parse_model(header + text))


IMAGE = "g (float[1,2,6,8] x) => (float[a,b,c,d] y)"


@pytest.mark.parametrize(
    ("opset", "body"),
    [
        (7, '{y = Upsample <mode = "nearest", scales = [1.0, 1.0, 2.0, 3.0]> (x)}'),
        (7, '{y = Upsample <mode = "linear", scales = [1.0, 1.0, 2.0, 2.0]> (x)}'),
        (7, '{y = Upsample <mode = "linear", scales = [1.0, 1.0, 1.6, 1.3]> (x)}'),
        (9, '<float[4] s = {1, 1, 2, 2}> {y = Upsample <mode = "linear"> (x, s)}'),
        (10, '<float[4] s = {1, 1, 2, 2}> {y = Resize <mode = "linear"> (x, s)}'),
        (10, "<float[4] s = {1, 1, 2, 1.5}> {y = Resize (x, s)}"),
        (10, '<float[4] s = {1, 1, 0.5, 0.6}> {y = Resize <mode = "nearest"> (x, s)}'),
        (7, "{y = ImageScaler <bias = [-1.5, 2.5], scale = 0.5> (x)}"),
        (7, "{y = Affine <alpha = 0.5, beta = 3.0> (x)}"),
        (7, "{y = Crop <border = [1, 2, 3, 0]> (x)}"),
        (7, "{y = Crop <border = [1, 2, 3, 1], scale = [2, 3]> (x)}"),
        (7, "{y = Relu (x)}"),
        (12, "{y = Softmax <axis = 2> (x)}"),
    ],
)
def test_a_converted_operator_computes_the_same(opset, body):
    model = parse(IMAGE + body, opset)
    converted = convert_opset(model, 17)
    assert converted.opset_imports == {"": 17}
    check = Equivalence(model)
    assert check.outputs is not None
    assert check.objection(converted) is None
    assert converted.graph.outputs[0].name == "y"
    assert model.opset_imports == {"": opset}


def test_an_operator_newer_than_its_opset_stays():
    model = parse(
        "g (float[n,4] x) => (float[n,4] y) <float[4] s = {1, 2, 3, 4}>"
        "{y = LayerNormalization(x, s)}",
        14,
    )
    converted = convert_opset(model, 17)
    assert [(node.domain, node.op_type) for node in converted.graph] == [("", "LayerNormalization")]
    assert Equivalence(model).objection(converted) is None


def test_newer_opsets_come_down():
    model = parse("g (float[n,4] x) => (float[n,4] y) {h = Relu (x) y = Tanh (h)}", 22)
    converted = convert_opset(model, 21)
    assert converted.opset_imports == {"": 21}
    check = Equivalence(converted)
    assert np.isfinite(check.outputs[0]).all()


@pytest.mark.parametrize(
    ("opset", "body"),
    [
        (23, "<float[8] s = {1, 2, 1, 2, 1, 2, 1, 2}> {y = RMSNormalization(x, s)}"),
        (23, "{y = Attention(x, x, x)}"),
        (24, "{y = Swish <alpha = 1.5> (x)}"),
        (25, "{h = Swish (x) y = Attention <is_causal = 1> (h, x, x)}"),
    ],
)
def test_newer_operators_become_the_functions_that_define_them(opset, body):
    model = parse("g (float[1,2,6,8] x) => (float[a,b,c,d] y)" + body, opset)
    converted = convert_opset(model, 21)
    assert converted.opset_imports == {"": 21}
    reference = onnx.reference.ReferenceEvaluator(to_proto(model))
    x = np.random.default_rng(0).standard_normal((1, 2, 6, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(
        serialize(runnable(model)), providers=["CPUExecutionProvider"]
    )
    for ours, expected in zip(
        session.run(None, {"x": x}), reference.run(None, {"x": x}), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
