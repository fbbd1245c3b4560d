"""What checking an artifact against ONNX Runtime takes: the reference, the search for a node, the numbers."""
