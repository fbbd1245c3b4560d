"""Graphs on which the compiler once failed, mostly found by scripts/fuzz.py: ``regressions/*.txt`` in ONNX's text form.

The first line says what was wrong; a line ``# sizes: n=1,3 m=2,7`` gives open dims the sizes to run at. Constants that
are declared without values, and all inputs, get random ones.
"""

import re
from pathlib import Path

import numpy as np
import onnx
import onnx.helper as oh
import pytest
from graph_check import run_artifact
from onnx.reference import ReferenceEvaluator

from onnxkiln.compare import compare_all

FILES = sorted((Path(__file__).parent / "regressions").glob("*.txt"))


def some(dtype, shape, seed):
    data = np.random.default_rng(seed)
    if dtype == np.bool_:
        return data.random(shape) < 0.5
    return data.integers(0, 9, shape).astype(dtype) if dtype.kind in "iu" else data.uniform(-2, 2, shape).astype(dtype)


def read(path):
    """The model, and a dict of sizes for each run."""
    lines = path.read_text().splitlines()
    model = onnx.parser.parse_model("\n".join(line for line in lines if not line.startswith("#")))
    sizes = dict(re.findall(r"(\w+)=([\d,]+)", " ".join(line for line in lines if line.startswith("# sizes:"))))
    columns = {name: [int(size) for size in given.split(",")] for name, given in sizes.items()}
    for seed, value in enumerate(model.graph.value_info):
        array = some(*_type(value, {}), seed)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
    del model.graph.value_info[:]
    runs = len(next(iter(columns.values()), [0]))
    return model, [{name: column[run] for name, column in columns.items()} for run in range(runs)]


def _type(value, sizes):
    tensor = value.type.tensor_type
    shape = [sizes[dim.dim_param] if dim.dim_param else dim.dim_value for dim in tensor.shape.dim]
    return np.dtype(oh.tensor_dtype_to_np_dtype(tensor.elem_type)), shape


def feeds_of(model, sizes):
    return {value.name: some(*_type(value, sizes), 100 + seed) for seed, value in enumerate(model.graph.input)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_works_now(path, tmp_path):
    model, runs = read(path)
    feeds = [feeds_of(model, sizes) for sizes in runs]
    names = [output.name for output in model.graph.output]
    for feed, found in zip(feeds, run_artifact(model, feeds, tmp_path), strict=True):
        expected = ReferenceEvaluator(model).run(None, feed)
        assert not [str(result) for result in compare_all(names, expected, found) if result.problem]
