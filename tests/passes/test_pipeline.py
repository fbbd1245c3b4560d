"""The ordering of all passes: levels, reports, dumps, errors, and that no pass changes the module it is given."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tvm
from kernel_cases import Kernels
from pass_graphs import const, data, emit, graph
from tvm import relax

from onnxkiln import targets
from onnxkiln.errors import CompileError, UsageError
from onnxkiln.passes import pipeline
from onnxkiln.passes.pipeline import FINISHING, LEVELS, PIPELINE, Pipeline, Step, steps_for
from onnxkiln.passes.schedule_functions import schedule_functions

O = relax.op  # noqa: E741
TARGET = targets.parse("cpu")[0]
WEIGHTS = [data(6, 3, 3, 3), data(6, 1, 1), data(6, 4)]


def network(x: relax.Expr) -> list[relax.Expr]:
    """Something for most passes: a foldable constant, a scale behind a convolution, rows, a view, an alias."""
    y = emit(O.nn.conv2d(x, const(WEIGHTS[0]), padding=(1, 1, 1, 1)))
    y = emit(O.nn.relu(O.multiply(y, O.sqrt(O.multiply(const(WEIGHTS[1]), const(WEIGHTS[1]))))))
    pooled = emit(O.mean(y, [2, 3]))
    return [O.nn.softmax(O.matmul(pooled, const(WEIGHTS[2])), -1), O.reshape(x, (-1,)), pooled]


def test_levels_only_add_steps() -> None:
    for steps in (PIPELINE, FINISHING):
        names = [[step.name for step in steps_for(level, steps)] for level in LEVELS]
        for smaller, larger in itertools.pairwise(names):
            assert [name for name in larger if name in smaller] == smaller
        assert names[-1] == [step.name for step in steps]
        assert len(set(names[-1])) == len(names[-1])
    assert len(steps_for("O0")) < len(steps_for("O1")) < len(steps_for("O2"))


@pytest.mark.parametrize("level", ["O4", "o2", "", "2"])
def test_an_unknown_level_is_refused(level: str) -> None:
    with pytest.raises(UsageError, match="unknown level") as caught:
        steps_for(level)
    assert "O0, O1, O2, O3" in str(caught.value.hint)


def test_every_level_gives_the_same_answer() -> None:
    mod = graph(network, ("n", 3, "h", "w"))
    feeds = [data(2, 3, 5, 7), data(1, 3, 1, 1)]
    plain = Kernels(mod, level="O0")
    wanted = [plain(x) for x in feeds]
    for level in ("O1", "O2"):
        kernels = Kernels(mod, level=level)
        for x, outputs in zip(feeds, wanted, strict=True):
            for got, want in zip(kernels(x), outputs, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5, err_msg=level)


def test_reports_count_and_time_each_step() -> None:
    run = Pipeline("O2")
    run.optimize(graph(network, ("n", 3, "h", "w")), TARGET)
    wanted = [step.name for step in steps_for("O2") if "cpu" in step.machines]
    assert [report.name for report in run.reports] == wanted
    applied = {report.name: report.applied for report in run.reports}
    assert applied["fold_constants"] == 2
    assert applied["fold_affine"] == 1
    assert applied["copy_aliased_outputs"] == 1
    assert applied["outline_branches"] == 0
    assert applied["fuse"] is None  # TVM doesn't say
    assert all(report.seconds >= 0 for report in run.reports)


def test_no_step_changes_its_input() -> None:
    mod = graph(network, ("n", 3, "h", "w"))
    for step in PIPELINE:
        before = mod.script(show_meta=True)
        after, _ = step.run(mod, TARGET)
        assert mod.script(show_meta=True) == before, step.name
        mod = after
    mod, _ = schedule_functions(mod, TARGET)
    for step in FINISHING:
        before = mod.script(show_meta=True)
        step.run(mod, TARGET)
        assert mod.script(show_meta=True) == before, step.name


def test_every_step_gives_a_sound_module() -> None:
    mod = graph(network, ("n", 3, "h", "w"))
    for step in PIPELINE:
        mod, _ = step.run(mod, TARGET)
        assert relax.analysis.well_formed(mod) in (None, True), step.name


def test_dump_holds_the_module_after_each_step(tmp_path) -> None:
    run = Pipeline("O1", tmp_path / "new" / "folder")
    mod = run.optimize(graph(network, ("n", 3, "h", "w")), TARGET)
    run.finish(schedule_functions(mod, TARGET)[0], TARGET)
    names = [
        "imported",
        *[step.name for step in steps_for("O1") if "cpu" in step.machines],
        f"scheduled_{TARGET.isa.name}",
        *[step.name for step in steps_for("O1", FINISHING)],
    ]
    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert [file.name for file in files] == [f"{index:02}_{name}.py" for index, name in enumerate(names)]
    texts = {file.name[3:-3]: file.read_text() for file in files}
    assert "R.nn.conv2d" in texts["imported"] and "R.nn.conv2d" not in texts["legalize"]
    assert "T.parallel" in texts[f"scheduled_{TARGET.isa.name}"]


def test_an_error_names_the_pass_and_those_before_it(monkeypatch) -> None:
    def broken(_mod: tvm.IRModule, _target: targets.Target) -> tuple[tvm.IRModule, int]:
        raise ValueError("first line\nthe reason")

    first = next(step for step in PIPELINE if step.name == "outline_branches")
    monkeypatch.setattr(pipeline, "steps_for", lambda _level: [first, Step("break_things", "O1", broken)])
    run = Pipeline("O1")
    with pytest.raises(CompileError, match="pass break_things failed after outline_branches: the reason") as caught:
        run.optimize(graph(network, ("n", 3, "h", "w")), TARGET)
    assert "lower --level" in str(caught.value.hint)
