"""The floors of the house: who may import whom, and which outside packages."""

import subprocess
import sys

import pytest
from source_tree import ROOT, imports_of, module_name, package_files, package_folders, resolve_imports

FACE = {"", "__main__", "cli", "commands"}
FLOOR_3 = {"frontend", "passes", "quantization", "tuning", "artifacts", "verification"}
TUNER = {"algorithms", "tuner", "tuned_records", "kernel_builder"}
QUANTIZER = {"calibration", "quantizer", "layer_report", "layer_times"}
UPPER = {*FACE, "compiler", "verifier", "benchmarking", *TUNER, *QUANTIZER, *FLOOR_3, "schedules"}
MAY_IMPORT = {
    "compiler": FLOOR_3 | {"quantizer", "schedules", *TUNER},
    "calibration": {"artifacts", "frontend", "quantization"},
    "quantizer": {"artifacts", "calibration", "frontend", "layer_times", "quantization"},
    "layer_times": {"artifacts", "quantization"},
    "layer_report": {"calibration", "frontend", "layer_times", "quantization", "quantizer"},
    "tuner": {"kernel_builder", "tuned_records", "tuning"},
    "algorithms": {"kernel_builder", "passes", "schedules", "tuner", "tuning"},
    "tuned_records": {"artifacts", "tuning"},
    "kernel_builder": {"artifacts", "passes", "schedules"},
    "verifier": FLOOR_3 | {"compiler"},
    "benchmarking": {"artifacts"},
    "frontend": set(),
    "passes": {"schedules"},
    "quantization": set(),
    "tuning": {"schedules"},
    "artifacts": set(),
    "verification": set(),
    "schedules": set(),
}
"""For each place, the places above floor 1 that it may import beside itself; floor 1 is open to all."""

OUTSIDE = {
    "base": {"numpy", "tvm_ffi"},
    # google is protobuf, which onnx brings; ml_dtypes comes with onnx and TVM.
    "compile": {"numpy", "tvm_ffi", "tvm", "onnx", "onnx_ir", "onnxscript", "google", "ml_dtypes"},
    "floor 1": {"numpy"},
    # The log needs neither TVM nor ONNX; what measures and learns comes with the extra "tune".
    "tuning": {"numpy", "tvm", "tvm_ffi", "ml_dtypes", "platformdirs", "psutil", "rich", "xgboost"},
    "verification": {"numpy", "onnx", "onnxruntime"},
    # Each engine but ours is imported in a process of its own, by the file that opens it.
    "benchmarking": {"numpy", "onnx", "onnxruntime", "openvino", "tract", "tvm"},
    "face": {"numpy", "rich"},
}


def place(module):
    """Where a module lives: a folder, ``compiler``, a module of the public face, or floor 1."""
    top = module.split(".")[0]
    return top if top in UPPER else "floor 1"


def violations(source, module, is_package=False):
    """The imports of a source text at ``module`` that the floors forbid."""
    own = place(module)
    if own in FACE:
        return []
    allowed = {own, "floor 1"} | MAY_IMPORT.get(own, set())
    return [name for name, ours in resolve_imports(source, module, is_package) if ours and place(name) not in allowed]


def test_every_module_keeps_to_its_floor():
    wrong = {}
    for path in package_files():
        found = violations(path.read_text(encoding="utf-8"), module_name(path), path.name == "__init__.py")
        if found:
            wrong[str(path.relative_to(ROOT))] = found
    assert not wrong


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("passes.fold_constants", "from ..frontend import import_model"),
        ("schedules.generic", "def f():\n    from ..passes import pipeline"),
        ("artifacts.loader", "from .. import compiler"),
        ("targets", "from .schedules import generic"),
        ("frontend.reader", "from ..commands.output import print_json"),
        ("benchmarking.report", "from ..frontend import import_model"),
        ("tuning.log", "from ..passes import pipeline"),
    ],
)
def test_the_check_sees_a_broken_floor(module, source):
    assert violations(source, module)


def test_a_floor_below_may_be_imported():
    assert not violations("from ..errors import KilnError\nfrom .reader import read_model", "frontend.importer")


def outside_imports(path, lazy=True):
    return {name for name, ours in imports_of(path, lazy=lazy) if not ours and name not in sys.stdlib_module_names}


def test_outside_packages_are_those_of_the_floor():
    wrong = {}
    for path in package_files():
        where = place(module_name(path))
        allowed = OUTSIDE.get("face" if where in FACE else where, OUTSIDE["compile"])
        found = outside_imports(path) - allowed
        if found:
            wrong[str(path.relative_to(ROOT))] = found
    assert not wrong


def loader_closure():
    """The loader's modules: everything of the package that ``artifacts.loader`` may import, directly or not."""
    files = {module_name(path): path for path in package_files()}
    seen, waiting = set(), ["artifacts.loader"]
    while waiting:
        module = waiting.pop()
        if module and module not in seen:
            seen.add(module)
            waiting += [name for name, ours in imports_of(files[module]) if ours]
    return {module: files[module] for module in seen}


def test_the_loader_needs_numpy_and_tvm_ffi_alone():
    closure = loader_closure()
    assert "artifacts.manifest" in closure
    eager = {module: outside_imports(path, lazy=False) - OUTSIDE["base"] for module, path in closure.items()}
    assert not {module: names for module, names in eager.items() if names}
    # Only models with bfloat16 or float8 tensors need ml_dtypes, and it is asked for when one is loaded.
    later = {module: outside_imports(path) - OUTSIDE["base"] for module, path in closure.items()}
    assert {module: names for module, names in later.items() if names} == {"artifacts.dtypes": {"ml_dtypes"}}


def test_imports_inside_the_package_are_relative():
    absolute = [path for path in package_files() if ("onnxkiln", False) in set(imports_of(path))]
    assert not absolute


def test_no_module_hides_one_of_the_standard_library():
    names = {path.stem for folder in (ROOT, ROOT / "scripts", ROOT / "tests") for path in folder.glob("*.py")}
    assert not names & set(sys.stdlib_module_names)
    assert not {path.name for path in (ROOT / "scripts").iterdir() if path.is_dir()} & set(sys.stdlib_module_names)


def test_every_folder_with_modules_is_a_package():
    assert all((folder / "__init__.py").is_file() for folder in package_folders())


@pytest.mark.parametrize("statement", ["import onnxkiln", "import onnxkiln.cli; onnxkiln.cli.build_parser()"])
def test_the_face_is_light(statement):
    heavy = "{'tvm', 'tvm_ffi', 'onnx', 'onnx_ir', 'numpy', 'rich'}"
    code = f"{statement}\nimport sys\nprint(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
