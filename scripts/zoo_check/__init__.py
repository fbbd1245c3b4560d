"""Checking the zoo: compile a model, run it beside ONNX Runtime, compare; each step in a process of its own.

``check`` drives; ``compile_child``, ``reference_child``, ``artifact_child`` and ``latency_child`` are the processes.
"""
