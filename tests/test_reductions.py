"""Which axes a reduction goes over, in every form that opsets give them in."""

import numpy as np
import onnx_ir as ir
import pytest

from onnx_unipts.graph.reductions import reduced_axes


def stored(*axes: int) -> ir.Value:
    tensor = ir.tensor(np.array(axes, np.int64), name="axes")
    return ir.val("axes", tensor.dtype, (len(axes),), const_value=tensor)


def reduction(*second: ir.Value | None, **attributes) -> ir.Node:
    return ir.node("ReduceMean", [ir.val("x"), *second], attributes)


@pytest.mark.parametrize(
    ("node", "axes"),
    [
        (reduction(axes=[2, 1]), [1, 2]),
        (reduction(axes=[-1]), [3]),
        (reduction(stored(-1, 0)), [0, 3]),
        (reduction(stored(2), noop_with_empty_axes=1), [2]),
        (reduction(), [0, 1, 2, 3]),
        (reduction(stored()), [0, 1, 2, 3]),
        (reduction(noop_with_empty_axes=1), []),
        (reduction(stored(), noop_with_empty_axes=1), []),
        (reduction(None), [0, 1, 2, 3]),
        (reduction(ir.val("computed")), None),
        (reduction(ir.val("computed"), noop_with_empty_axes=1), None),
    ],
)
def test_axes_are_an_attribute_or_an_input_and_all_where_there_are_none(node, axes):
    assert reduced_axes(node, 4) == axes


def test_what_is_known_of_an_input_is_up_to_who_asks():
    node = reduction(ir.val("computed"))
    assert reduced_axes(node, 4, lambda value: np.array(-2)) == [2]


def test_a_scalar_is_reduced_over_no_axis():
    assert reduced_axes(reduction(), 0) == []
