"""What an error says is told in one line, without where in the runtime it was raised."""

from __future__ import annotations

import pytest

from onnx_unipts.graph.reason import reason_of


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("it failed\nat length", "it failed"),
        ("", "ValueError"),
        (
            "/src/orttraining/state.cc:621 onnxruntime::f(pybind11::module&)::<lambda(X*)> "
            "[ONNXRuntimeError] : 1 : FAIL : Duplicate definition of name (w)",
            "[ONNXRuntimeError] : 1 : FAIL : Duplicate definition of name (w)",
        ),
        (
            "Exception: /src/providers/common.h:23 int64_t onnxruntime::Axis(int64_t, int64_t) "
            "IsIn(axis, rank) was false. axis 1 is not in [-1,0]",
            "Exception: IsIn(axis, rank) was false. axis 1 is not in [-1,0]",
        ),
    ],
)
def test_the_reason_is_one_line_of_the_error(said: str, expected: str):
    assert reason_of(ValueError(said)) == expected
