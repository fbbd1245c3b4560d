"""The commands of the command line program, one per file.

Each has ``add_parser(commands, common)``, which registers its options, and ``execute(options)``, which does the work
and may return an exit code.
Heavy imports stay inside functions, so that ``--help`` and ``--version`` are instant and need neither TVM nor ONNX.
"""
