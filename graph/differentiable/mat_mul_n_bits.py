"""MatMulNBits, with weights of a few bits, has no gradient."""

import numpy as np
import onnx_ir as ir

from onnx_unipts.graph.differentiable.rule import RULES, Builder, Result

__all__ = ["mat_mul_n_bits"]


@RULES.register("com.microsoft.MatMulNBits")
def mat_mul_n_bits(node: ir.Node, op: Builder) -> Result:
    """MatMul with the floats that the weight stands for, Add of a bias."""
    x, weight, scales, zeros, order, bias = op.inputs(6)
    columns, rows, bits = (node.attributes.get_int(name, 0) for name in ("N", "K", "bits"))
    if bits not in (4, 8):
        return f"its weight has {bits} bits"
    if order is not None:
        return "the rows of its weight are in another order"
    blocks = op.constant(weight).reshape(columns, -1)
    steps = op.constant(scales).astype(np.float64).reshape(columns, -1, 1)
    count = steps.shape[1]
    offsets = np.float64(2 ** (bits - 1))
    if zeros is not None:
        stored = op.constant(zeros)
        packed = stored.dtype == np.uint8
        offsets = _unpacked(stored.reshape(columns, -1), bits) if packed else stored
        offsets = offsets.reshape(columns, -1)[:, :count, None].astype(np.float64)
    integers = _unpacked(blocks, bits).reshape(columns, count, -1).astype(np.float64)
    floats = ((integers - offsets) * steps).reshape(columns, -1)[:, :rows]
    y = op.MatMul(x, np.ascontiguousarray(floats.T))
    return y if bias is None else op.Add(y, bias)


def _unpacked(array: np.ndarray, bits: int) -> np.ndarray:
    """Return the numbers in bytes (rows, bytes): of two in one the lower half is the first."""
    if bits == 8:
        return array
    return np.stack([array & 15, array >> 4], axis=-1).reshape(len(array), -1)
