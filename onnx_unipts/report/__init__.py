"""Reports of a run: the document for machines and the tables on the terminal."""

from onnx_unipts.report.document import (
    Report,
    evaluation_document,
    inspection_document,
    report_document,
)
from onnx_unipts.report.files import describe_file
from onnx_unipts.report.layers import LayerSparsity, layer_sparsities

__all__ = [
    "LayerSparsity",
    "Report",
    "describe_file",
    "evaluation_document",
    "inspection_document",
    "layer_sparsities",
    "report_document",
]
