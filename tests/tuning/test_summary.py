"""A log in figures."""

from tuning_records import WHOLE, make, several

from onnxkiln.tuning.summary import count, known_workloads


def test_what_is_known_by_workload_and_class():
    records = [*several(3), make(status="crash"), make(isa="x86-64-v3", status="wrong"), make(workload="other")]
    first, other_class, other = known_workloads(records)
    assert (first.measured, first.failed, first.best.parameters) == (4, 1, {"pixels": 0})
    assert first.gflops == WHOLE.features["flops"] / 1e-3 / 1e9
    assert (other_class.isa, other_class.best, other_class.gflops) == ("x86-64-v3", None, None)
    assert other.workload != first.workload
    assert other_class.to_json()["seconds"] is None


def test_counts():
    figures = count([*several(3), make(status="crash", when="2026-02-01T00:00:00Z", template_version=2)])
    assert (figures["records"], figures["workloads"]) == (4, 1)
    assert figures["statuses"] == {"ok": 3, "crash": 1}
    assert figures["templates"] == {"conv2d v1": 3, "conv2d v2": 1}
    assert (figures["first"], figures["last"]) == (WHOLE.when, "2026-02-01T00:00:00Z")
    assert count([])["first"] is None
