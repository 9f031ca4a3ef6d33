"""What knows ONNX graphs: reading, finding weights, rewriting; imports nothing from above."""
