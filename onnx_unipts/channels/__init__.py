"""Channel pruning: which channels go, the masks that hold them, and mending what read them.

After SPA (Structurally Prune Anything, arXiv 2403.18955): dependent channels are grouped over the
whole ONNX graph, scored per group, and the weights that stay are updated from calibration data.
"""
