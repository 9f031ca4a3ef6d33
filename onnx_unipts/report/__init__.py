"""Reports of a run: the document for machines and the tables on the terminal."""

from onnx_unipts.report.document import (
    LayerSparsity,
    Outcome,
    describe_file,
    evaluation_document,
    inspection_document,
    layer_sparsities,
    report_document,
)

__all__ = [
    "LayerSparsity",
    "Outcome",
    "describe_file",
    "evaluation_document",
    "inspection_document",
    "layer_sparsities",
    "report_document",
]
