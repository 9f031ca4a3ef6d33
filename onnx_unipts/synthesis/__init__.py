"""Synthetic inputs worth something: chosen and refined by what the dense model makes of them."""

from onnx_unipts.synthesis.refinement import refine_images

__all__ = ["refine_images"]
