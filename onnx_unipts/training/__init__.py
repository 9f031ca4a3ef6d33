"""Sparse training on onnxruntime-training's gradient graph, without any training framework."""
