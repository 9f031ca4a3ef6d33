"""Rotation: linear streams in a basis in which the weights around them are sparser."""

from onnx_unipts.rotation.rotated import multiplications, rotatable, rotated_tensors
from onnx_unipts.rotation.sparsest import sparsest_rotation

__all__ = ["multiplications", "rotatable", "rotated_tensors", "sparsest_rotation"]
