"""The student: the user's graph with its weights as inputs and its normalisations back in place."""

from onnx_unipts.student.batches import batches_of
from onnx_unipts.student.building import build_student
from onnx_unipts.student.model import Student
from onnx_unipts.student.statistics import recalibrate
from onnx_unipts.student.writing import write_back

__all__ = ["Student", "batches_of", "build_student", "recalibrate", "write_back"]
