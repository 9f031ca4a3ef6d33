"""Dynamic sparse training: everything trains, masks move at every step."""

from onnx_unipts.training.recovery import RECOVERIES, Recovery


@RECOVERIES.register("dynamic")
class Dynamic(Recovery):
    """As UniPTS (arXiv 2405.18810, section 3.2): pruned weights train on and may return."""
