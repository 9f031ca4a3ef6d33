"""Reports of a run: the document for machines and the tables on the terminal."""

from onnx_unipts.report.document import (
    LayerSparsity,
    Report,
    describe_file,
    evaluation_document,
    inspection_document,
    layer_sparsities,
    report_document,
)

__all__ = [
    "LayerSparsity",
    "Report",
    "describe_file",
    "evaluation_document",
    "inspection_document",
    "layer_sparsities",
    "report_document",
]
