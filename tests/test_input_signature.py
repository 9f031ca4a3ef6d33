"""What a model's inputs are, and how --input-shape fixes their axes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from calibration_inputs import refused

from onnx_unipts.calibration import InputSpec, input_signature, parse_input_shapes


def model(text: str) -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(text))


class TestSignature:
    def test_lists_the_inputs_that_are_fed(self) -> None:
        read = input_signature(
            model(
                """<ir_version: 3, opset_import: ["" : 8]>
                g (float[N, 3] x, int64[2, length] ids, float[3] w) => (float[N, 3] y)
                <float[3] w = {1, 2, 3}> { y = Add(x, w) }"""
            )
        )
        assert read == [
            InputSpec("x", np.dtype(np.float32), ("N", 3)),
            InputSpec("ids", np.dtype(np.int64), (2, "length")),
        ]

    def test_a_negative_axis_is_dynamic(self) -> None:
        graph = model("<ir_version: 8, opset_import: ['' : 17]> g () => () {}".replace("'", '"'))
        graph.graph.inputs.append(
            ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([-1, 3]))
        )
        assert input_signature(graph)[0].shape == (None, 3)

    def test_input_shape_fixes_dynamic_axes_but_the_first(self) -> None:
        graph = model(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[N, 3, h, w] x) => (float[N, 3, h, w] y) { y = Relu(x) }"""
        )
        for text in ("x:1,3,16,24", "1,3,16,24"):
            shapes = parse_input_shapes([text])
            assert input_signature(graph, shapes)[0].shape == ("N", 3, 16, 24)
        with refused(r"x:1,4,16,24 contradicts the model, .* \[N, 3, h, w\]"):
            input_signature(graph, parse_input_shapes(["x:1,4,16,24"]))
        with refused(r"contradicts"):
            input_signature(graph, parse_input_shapes(["x:1,3,16"]))
        with refused(r"names 'y', but the model's inputs are x"):
            input_signature(graph, parse_input_shapes(["y:1,3,16,24"]))

    def test_the_name_is_what_stands_before_the_last_colon(self) -> None:
        assert parse_input_shapes(["serving/x:0:1,3,8,8", "7,2"]) == {
            "serving/x:0": (1, 3, 8, 8),
            "": (7, 2),
        }

    @pytest.mark.parametrize("text", ["x:", "x", "x:1,a", "x:1,-3", "x:0,3", "x:1,,3", ""])
    def test_a_malformed_input_shape_is_refused(self, text: str) -> None:
        with refused("expected NAME:D0,D1"):
            parse_input_shapes([text])

    def test_a_shape_given_twice_is_refused(self) -> None:
        with refused("'x' twice"):
            parse_input_shapes(["x:1,3", "x:1,4"])
