"""What knows ONNX graphs: reading, finding weights, rewriting. Imports nothing of the layers above."""
