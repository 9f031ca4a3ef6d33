"""Comparing models by running them: what counts as the same, and what inputs they are given."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

from onnx_unipts.graph.equivalence import Equivalence, relative_difference
from onnx_unipts.graph.model import from_proto


def parse(text: str, opset: int = 17) -> ir.Model:
    header = f'<ir_version: 8, opset_import: ["" : {opset}]>\n'
    return from_proto(parser.parse_model(header + text))


def scaled(factor: float) -> ir.Model:
    return parse(f"g (float[n,4] x) => (float[n,4] y) <float c = {{{factor}}}> {{y = Mul (x, c)}}")


def test_rounding_is_no_difference_and_a_change_is_one():
    check = Equivalence(scaled(2))
    assert check.objection(scaled(2.00001)) is None
    assert check.objection(scaled(2.001)) == "output 'y' differs by 5.0e-04"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Log (x)", "Log (x)"),
        ("ReduceSum <keepdims = 0> (x)", "ReduceSum <keepdims = 0> (x)"),
    ],
)
def test_nan_equals_nan_and_scalars_are_compared(before, after):
    text = "g (float[n,4] x) => (float y) {{y = {}}}"
    assert Equivalence(parse(text.format(before))).objection(parse(text.format(after))) is None


def test_no_number_where_one_was_is_a_difference():
    check = Equivalence(parse("g (float[n,4] x) => (float[n,4] y) {y = Identity (x)}"))
    rooted = parse("g (float[n,4] x) => (float[n,4] y) {s = Sqrt (x) y = Mul (s, s)}")
    assert check.objection(rooted) == "output 'y' differs by inf"


def test_another_shape_is_a_difference():
    text = "g (float[2,4] x) => (float[a,b] y) {{y = {}}}"
    check = Equivalence(parse(text.format("Relu (x)")))
    assert "differs" in check.objection(parse(text.format("Transpose (x)")))


def test_another_type_is_a_difference():
    check = Equivalence(parse("g (float[n,4] x) => (float[n,4] y) {y = Relu (x)}"))
    double = "g (float[n,4] x) => (double[n,4] y) {r = Relu (x) y = Cast <to = 11> (r)}"
    assert check.objection(parse(double)) == "output 'y' differs by inf"


@pytest.mark.parametrize(
    "text",
    [
        "g (int64[n] x) => (int64[n] y) {y = Abs (x)}",
        "g (bool[n] x) => (bool[n] y) {y = Not (x)}",
        "g (float16[n,k] x) => (float16[n,k] y) {y = Relu (x)}",
        "g (uint8[n] x) => (float[n] y) {y = Cast <to = 1> (x)}",
        "g (float[n,n] x, float[n] z) => (float[n,n] y) {y = Add (x, z)}",
        "g (float[-1,3,-1,-1] x, float[5,3,32,32] w) => (float[a,b,c,d] y) {y = Conv (x, w)}",
        "g (float[n,t] x, float[2,n,8] s) => (float[2,n,t] y) <float[8,1] w = "
        "{1,2,3,4,5,6,7,8}> {h = MatMul (s, w) y = Add (h, x)}",
    ],
)
def test_inputs_of_any_type_and_dynamic_shape_are_made_to_fit(text):
    check = Equivalence(parse(text))
    assert check.outputs is not None
    assert check.objection(parse(text)) is None


def test_a_model_that_does_not_load_can_only_be_replaced_by_one_that_does():
    check = Equivalence(parse("g (float[n,4] x) => (float[n,4] y) {y = Relu (x)}", opset=26))
    assert not check.loads
    assert check.outputs is None
    assert check.objection(scaled(2)) is None
    assert check.objection(parse("g (float[n] x) => (float[n] y) {y = Nothing (x)}"))


def test_half_precision_is_compared_at_its_own_precision():
    def half(factor: float) -> ir.Model:
        bits = int(np.float16(factor).view(np.uint16))
        return parse(
            f"g (float16[n,4] x) => (float16[n,4] y) <float16 c = {{{bits}}}> {{y = Mul (x, c)}}"
        )

    check = Equivalence(half(2))
    assert check.objection(half(2.002)) is None
    assert check.objection(half(2.1))


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([1.0, -4.0], [1.0, -4.0], 0),
        ([1.0, -4.0], [1.1, -4.0], 0.1 / 4),
        ([1e6, -4e6], [1.1e6, -4e6], 0.1 / 4),
        ([0.0, 0.0], [1e-9, 0.0], 1e-3),
        ([1.0, np.inf, -np.inf, np.nan], [1.5, np.inf, -np.inf, np.nan], 0.5),
        ([np.nan, np.inf], [np.nan, np.inf], 0),
        ([1.0, -np.inf], [1.0, np.inf], np.inf),
        ([1.0, np.inf], [1.0, 2.0], np.inf),
        ([1.0, np.nan], [1.0, 2.0], np.inf),
        ([1.0, 2.0], [1.0, np.nan], np.inf),
        ([1.0, 2.0], [1.0, np.inf], np.inf),
        ([1.0, 2.0], [[1.0, 2.0]], np.inf),
        ([1.0, 2.0], [1.0], np.inf),
        ([], [], 0),
        (np.array([4, 200], np.uint8), np.array([6, 200], np.uint8), 0.01),
        (np.array([0, 255], np.uint8), np.array([255, 255], np.uint8), 1),
        ([True, False], [True, True], 1),
        (["cat", "dog"], ["cat", "dog"], 0),
        (["cat", "dog"], ["cat", "cow"], np.inf),
    ],
    ids=str,
)
def test_a_difference_is_relative_to_the_largest_number_and_infinite_where_none_is_one(
    before, after, expected
):
    difference = relative_difference(np.asarray(before), np.asarray(after))
    assert difference == pytest.approx(expected, rel=1e-6)
