"""Computing single nodes on constants, without a session."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

__all__ = ["evaluate"]

logger = logging.getLogger(__name__)


def evaluate(
    node: ir.Node, arrays: Mapping[ir.Value, np.ndarray], opset: int
) -> dict[ir.Value, np.ndarray] | None:
    """Return the outputs of ``node`` for ``arrays``, None where they cannot be computed."""
    proto = ir.to_proto(node)
    names = [name for name in proto.output if name]
    feeds = {str(value.name): array for value, array in arrays.items()}
    graph = onnx.helper.make_graph(
        [proto],
        "node",
        [onnx.helper.make_tensor_value_info(name, 1, None) for name in feeds],
        [onnx.helper.make_tensor_value_info(name, 1, None) for name in names],
    )
    imports = [onnx.helper.make_opsetid("", opset)]
    try:
        model = onnx.helper.make_model(graph, opset_imports=imports)
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(names, feeds)
    except Exception as error:
        logger.debug("%s is not computed: %s", node.op_type, error)
        return None
    by_name = dict(zip(names, results, strict=True))
    return {v: np.asarray(by_name[v.name]) for v in node.outputs if v.name in by_name}
