"""MetaSchedule's database: TVM reads what we write, we read what TVM writes, and what doesn't fit is named."""

import json
from dataclasses import replace

import pytest
import tvm
import tvm_ffi
from tuning_records import WHOLE, make
from tvm import te
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms

from onnxkiln.errors import LogError
from onnxkiln.schedules.template import schedule_function
from onnxkiln.targets import parse
from onnxkiln.tuning.log import TuningLog
from onnxkiln.tuning.metaschedule_form import RECORDS, WORKLOADS, export_database, import_database, is_database
from onnxkiln.tuning.workload import workload_of

TARGET = {"kind": "llvm", "mcpu": "x86-64-v4", "num-cores": 2}


@pytest.fixture
def log():
    with TuningLog.open("none", shipped=False) as log:
        yield log


def product(rows):
    a, b = te.placeholder((rows, 32), name="a"), te.placeholder((32, 64), name="b")
    k = te.reduce_axis((0, 32), name="k")
    c = te.compute((rows, 64), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="c")
    return tvm.IRModule({"main": te.create_prim_func([a, b, c])})


def scheduled(mod, width):
    schedule = Schedule(mod)
    i, j, k = schedule.get_loops(schedule.get_sblock("c"))
    outer, inner = schedule.split(j, [None, width])
    schedule.reorder(i, outer, k, inner)
    schedule.vectorize(inner)
    return schedule


def write_database(folder, target=TARGET):
    """Two workloads, three good records and a failed one, as TVM writes them."""
    folder.mkdir()
    database = ms.database.JSONDatabase(work_dir=str(folder))
    for rows, width, seconds in [(16, 16, [1e-3, 2e-3]), (16, 8, [3e-3]), (17, 16, [4e-3]), (17, 8, [1e10])]:
        mod = product(rows)
        arguments = ms.arg_info.ArgInfo.from_prim_func(mod["main"])
        workload = database.commit_workload(mod)
        trace = scheduled(mod, width).trace
        database.commit_tuning_record(
            ms.database.TuningRecord(trace, workload, seconds, tvm.target.Target(target), arguments)
        )
    return folder


def test_a_database_in(log, tmp_path):
    folder = write_database(tmp_path / "db")
    assert is_database(folder) and not is_database(tmp_path)
    arrival = import_database(log, folder)
    assert (arrival.read, arrival.new, arrival.skipped) == (4, 4, ())
    first, *_, last = log.records()
    assert (first.isa, first.threads, first.seconds, first.status) == ("x86-64-v4", 2, (1e-3, 2e-3), "ok")
    assert first.workload == workload_of(product(16)["main"])
    assert first.task == "main(float32[16, 32], float32[32, 64], float32[16, 64])"
    assert (last.status, last.seconds) == ("error", ())
    assert log.modules() == sorted({one.workload for one in log.records()})


def test_and_out_again_as_tvm_reads_it(log, tmp_path):
    import_database(log, write_database(tmp_path / "db"))
    done = export_database(log, log.records(), tmp_path / "out")
    assert (done.written, done.skipped) == (3, ())
    database = ms.database.JSONDatabase(work_dir=str(tmp_path / "out"), allow_missing=False)
    best = database.query_tuning_record(product(16), tvm.target.Target(TARGET), "main")
    assert [float(one) for one in best.run_secs] == [1e-3, 2e-3]
    replayed = database.query_schedule(product(16), tvm.target.Target(TARGET), "main")
    assert tvm_ffi.structural_equal(replayed.mod, scheduled(product(16), 16).mod)


def template_record(log, conv, parameters=None):
    """A record of our template for a convolution, its module in the log."""
    function = conv
    default = schedule_function(function, parse("cpu:x86-64-v4")[0])
    assert default.template
    record = replace(
        WHOLE, workload=workload_of(function), template=default.template,
        parameters=dict(default.parameters) if parameters is None else parameters,
    )  # fmt: skip
    log.keep_module(record.workload, tvm.ir.save_json(tvm.IRModule({"main": function})))
    log.append(record)
    return record, default.function


@pytest.fixture(scope="module")
def conv():
    from onnxkiln.schedules import conv2d

    data = te.placeholder((1, 14, 14, 32), name="data")
    weight = te.placeholder((4, 3, 3, 32, 16), name="weight")
    tile = conv2d.pixel_tile(14, 64, 288, parse("cpu:x86-64-v4")[0])
    result = conv2d.conv2d(data, weight, 64, (1, 1), (1, 1, 1, 1), (1, 1), tile)
    return te.create_prim_func([data, weight, result])


def test_a_template_of_ours_becomes_a_trace(log, tmp_path, conv):
    record, expected = template_record(log, conv)
    done = export_database(log, log.records(), tmp_path / "out")
    assert (done.written, done.skipped) == (1, ())
    database = ms.database.JSONDatabase(work_dir=str(tmp_path / "out"), allow_missing=False)
    mod = tvm.ir.load_json(log.module(record.workload))
    schedule = database.query_schedule(mod, tvm.target.Target(TARGET), "main")
    assert tvm_ffi.structural_equal(schedule.mod["main"], expected)
    with TuningLog.open("none", shipped=False) as other:
        import_database(other, tmp_path / "out")
        (back,) = other.records()
    assert (back.workload, back.seconds, back.isa) == (record.workload, record.seconds, record.isa)


def test_what_a_trace_can_not_say_is_named(log, tmp_path, conv):
    record, _ = template_record(log, conv, {"tile": 3, "blocks": 2})
    log.append(make(workload="unknown"))
    log.append(replace(record, template="depthwise_conv2d"))
    rows = te.var("rows")
    open_dims = te.placeholder((rows, 4), name="a")
    result = te.compute((rows, 4), lambda i, j: open_dims[i, j] * 2.0, name="b")
    log.append(make(workload="open"))
    module = tvm.IRModule({"main": te.create_prim_func([open_dims, result])})
    log.keep_module(make(workload="open").workload, tvm.ir.save_json(module))
    done = export_database(log, log.records(), tmp_path / "out")
    assert done.written == 0
    assert [why.split(":")[-1].strip() for _, why in done.skipped] == [
        "another register tile is another function, which a trace can't make",
        "the log doesn't hold its function, only its digest",
        "its function is none for template 'depthwise_conv2d'",
        "it has open dims, and MetaSchedule's records say each argument's size",
    ]
    assert is_database(tmp_path / "out")


def test_a_folder_that_exists_is_kept(log, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(LogError, match="exists"):
        export_database(log, [], tmp_path / "out")


def test_damaged_lines_are_left_out_and_named(log, tmp_path):
    folder = write_database(tmp_path / "db")
    records = folder / RECORDS
    records.write_text(records.read_text()[:-50])
    workloads = folder / WORKLOADS
    first, second = workloads.read_text().splitlines()
    hashed, text = json.loads(second)
    workloads.write_text(f"{first}\n{json.dumps([hashed, text[:100]])}\n")
    arrival = import_database(log, folder)
    assert arrival.read == len(log) == 2
    assert [where for where, _ in arrival.skipped] == [
        f"{WORKLOADS} line 2", f"{RECORDS} line 3", f"{RECORDS} line 4"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [("[0, [[], [1.0], {\"kind\": \"cuda\"}, []]]", "no CPU"), ("[7, [[], [1.0], {}, []]]", "line 8"), ("{}", "")],
)  # fmt: skip
def test_other_records_are_left_out_and_named(log, tmp_path, line, words):
    folder = write_database(tmp_path / "db")
    (folder / RECORDS).write_text(line)
    arrival = import_database(log, folder)
    assert not arrival.read
    assert words in arrival.skipped[0][1]


@pytest.mark.parametrize(
    ("mcpu", "isa"), [("skylake-avx512", "x86-64-v4"), ("haswell", "x86-64-v3"), ("x86-64", "x86-64-v1")]
)
def test_the_instruction_set_is_that_of_the_targets_processor(log, tmp_path, mcpu, isa):
    import_database(log, write_database(tmp_path / "db", {"kind": "llvm", "mcpu": mcpu}))
    assert {one.isa for one in log.records()} == {isa}

