"""TVM as it comes: its own ONNX importer and the default pipeline for the CPU, for the shapes of the feeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def import_library() -> None:
    """Import TVM and its importer."""
    import onnx  # noqa: F401
    import tvm.relax.frontend.onnx  # noqa: F401


def open_session(job: dict[str, Any]) -> Callable[[dict[str, Any]], list[Any]]:
    """A virtual machine over the compiled model; the number of threads is in the environment."""
    import onnx
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx

    model = onnx.load(job["model"])
    stored = {tensor.name for tensor in model.graph.initializer}
    names = [value.name for value in model.graph.input if value.name not in stored]
    shapes = {name: list(job["feeds_of"][name][1]) for name in names}
    module = from_onnx(model, shape_dict=shapes, keep_params_in_input=False)
    cpu = tvm.get_global_func("target.llvm_get_system_cpu")()
    executable = tvm.compile(module, target=tvm.target.Target({"kind": "llvm", "mcpu": cpu}))
    main = relax.VirtualMachine(executable, tvm.cpu())["main"]

    def run(feeds: dict[str, Any]) -> list[Any]:
        result = main(*(tvm.runtime.tensor(feeds[name]) for name in names))
        outputs = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
        return [output.numpy() for output in outputs]

    return run
