"""Small PyTorch modules, each of another kind of graph, that scripts/torch_export.py exports, compiles and compares."""
