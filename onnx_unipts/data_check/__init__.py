"""A look at the dense model's answers on the data, before anything long: do they make sense?

What is wrong with data shows in the outputs of the model that it is for: a model fed with a wrong
range, swapped channels or another order of labels is less sure, answers one class, or seldom
rightly. All of this only warns; nothing is chosen by it but whether to rehearse.
"""

from onnx_unipts.data_check.checks import check_outputs, holds_scores
from onnx_unipts.data_check.ranges import stand_ins, value_ranges

__all__ = ["check_outputs", "holds_scores", "stand_ins", "value_ranges"]
