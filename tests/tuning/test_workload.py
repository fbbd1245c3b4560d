"""The same kernel has the same workload whatever its names, and another kernel another one."""

import pass_graphs
import tuning_cases as cases
from tvm import tirx

from onnxkiln.tuning.workload import canonical_text, rename, workload_of


def functions(mod):
    return [f for f in cases.optimized(mod)[0].functions.values() if isinstance(f, tirx.PrimFunc)]


def test_names_do_not_matter():
    script = 'def f(a: T.Buffer((n, 4))):\n with T.sblock("pad"):  # words\n  a[i] = T.max(a[i], T.float32(1.5))\n'
    other = 'def g(x: T.Buffer((m, 4))):\n with T.sblock("pad_1"):\n  x[j] = T.max(x[j], T.float32(1.5))\n'
    assert rename(script).split() == rename(other).split()
    for change in (("T.max", "T.min"), ("1.5", "1.25"), ("a[i], T", "a[a], T"), ("(n, 4)", "(n, 5)")):
        assert rename(script.replace(*change)).split() != rename(other).split()


def test_dtypes_and_marks_stay():
    text = rename('x = T.Buffer((4,), "float16")\nT.sblock_attr({"kiln.template": "matmul"})')
    assert '"float16"' in text and '{"kiln.template": "matmul"}' in text and "x" not in text.split()


def test_dims_and_functions_of_other_names_are_the_same_workload():
    for one, other in zip(functions(cases.layers("batch")), functions(cases.layers("a_very_other_name"))):
        assert canonical_text(one) == canonical_text(other)
        assert workload_of(one) == workload_of(other.with_attr("global_symbol", "renamed"))


def test_sizes_and_shapes_are_part_of_it():
    texts = {workload_of(f) for columns in (96, 80) for f in functions(cases.layers(12, columns=columns))}
    assert len(texts) == len(functions(cases.layers(12))) * 2
    (function, *_) = functions(cases.layers("n"))
    assert len({workload_of(function, sizes) for sizes in ((), (1,), (2,), (1, 2))}) == 4


def test_weights_are_no_part_of_it():
    before = [workload_of(f) for f in functions(cases.layers(12))]
    pass_graphs.RNG.normal(size=3)  # other numbers from here on
    assert [workload_of(f) for f in functions(cases.layers(12))] == before
