"""What a machine can do, and how targets are named."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

import pytest
import tiny_artifacts
import tvm

from onnxkiln import targets
from onnxkiln.errors import UsageError
from onnxkiln.gpus import GPUS


def write_cpuinfo(folder: Path, *flags: str) -> Path:
    path = folder / "cpuinfo"
    path.write_text("".join(f"processor\t: {i}\nflags\t\t: {line}\n" for i, line in enumerate(flags)))
    return path


def test_features_are_those_of_every_processor_under_llvm_names(tmp_path: Path) -> None:
    path = write_cpuinfo(tmp_path, "fpu sse4_1 abm pni avx512_vnni lahf_lm", "fpu sse4_1 abm pni avx2 lahf_lm")
    assert targets.host_features(path) == {"fpu", "sse4.1", "lzcnt", "sse3", "sahf"}


def test_arm_features(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nFeatures : fp asimd crc32\n")
    assert targets.ISAS["aarch64"].features <= targets.host_features(path)


def test_no_cpuinfo_means_no_features(tmp_path: Path) -> None:
    assert targets.host_features(tmp_path / "none") == frozenset()


def test_levels_contain_one_another() -> None:
    levels = [targets.ISAS[f"x86-64-v{n}"] for n in (1, 2, 3, 4)]
    for lower, higher in itertools.pairwise(levels):
        assert lower.features < higher.features
        assert lower.rank < higher.rank


@pytest.mark.parametrize("name", list(targets.ISAS))
def test_llvm_agrees_on_what_a_level_contains(name: str) -> None:
    """The feature list that the loader checks is exactly what the code generator is allowed to use."""
    target = targets.parse(f"cpu:{name}")[0]
    llvm = set(tvm.target.codegen.llvm_get_cpu_features(tvm.target.Target(target.tvm_json())))
    assert set(target.required_features) <= llvm
    instructions = {"avx", "avx2", "avx512f", "avx512bf16", "avx512vnni", "avxvnni", "fma", "sse4.2", "movbe", "bmi2"}
    assert llvm & instructions <= set(target.required_features)


def test_host_claims_only_what_the_kernel_reports() -> None:
    host = targets.host()
    assert set(host.required_features) <= targets.host_features()
    assert not targets.missing_features(host.required_features)
    llvm = set(tvm.target.codegen.llvm_get_cpu_features(tvm.target.Target(host.tvm_json())))
    assert set(host.required_features) <= llvm


def test_missing_features_are_named() -> None:
    assert targets.missing_features(["sse2", "teleport", "avx1024"]) == ["avx1024", "teleport"]


def test_caches_come_from_sysfs(tmp_path: Path) -> None:
    for index, (kind, level, size) in enumerate([("Data", 1, "48K"), ("Instruction", 1, "64K"), ("Unified", 2, "2M")]):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, value in (("type", kind), ("level", level), ("size", size)):
            (folder / name).write_text(f"{value}\n")
    assert targets.host_caches(tmp_path) == {1: 48 * 1024, 2: 2 * 1024 * 1024}


def test_hyper_threads_count_once_and_a_quota_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "host_cpus", lambda: [0, 1, 2, 3])
    for cpu, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings)
    quota = tmp_path / "cpu.max"
    assert targets.host_cores(tmp_path, quota) == 2
    quota.write_text("max 100000\n")
    assert targets.host_cores(tmp_path, quota) == 2
    quota.write_text("150000 100000\n")
    assert targets.host_cores(tmp_path, quota) == 1


def test_parse_reads_lists_in_order() -> None:
    names = [target.isa.name for target in targets.parse("cpu:x86-64-v3, cpu:x86-64-v1,cpu:aarch64")]
    assert names == ["x86-64-v3", "x86-64-v1", "aarch64"]


def test_parse_gives_lanes_and_tvms_name() -> None:
    v4 = targets.parse("cpu:x86-64-v4")[0]
    assert (v4.vector_lanes, v4.mcpu) == (16, "x86-64-v4")
    assert v4.tvm_json()["mattr"] == ["-prefer-256-bit"]
    assert (v4.threads, v4.l1, v4.l2) == (4, 32 * 1024, 1024 * 1024), "the same on whatever machine"
    v1 = targets.parse("cpu:x86-64-v1")[0]
    assert (v1.vector_lanes, v1.mcpu) == (4, "x86-64")
    assert targets.parse("cpu:aarch64")[0].tvm_json()["mtriple"].startswith("aarch64")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cpu:x86-64-v9", "unknown target 'cpu:x86-64-v9'"),
        ("", "unknown target ''"),
        ("cpu,,", "unknown target ''"),
        ("gpu", "unknown target 'gpu'"),
        ("cuda:sm_91", "'sm_91' is not known"),
        ("cuda:", "'' is no GPU architecture"),
        ("cuda:sm_90,sm_90", "sm_90 occurs twice"),
        ("cuda:sm_90,ampere", "'ampere' is no GPU architecture"),
        ("cuda,cpu", "for processors or for GPUs"),
        ("cpu,cuda", "for processors or for GPUs"),
        ("cuda,host=vax", "host= takes one of"),
        ('{"kind": "llvm"}', "not built yet"),
        ("cpu:x86-64-v3,cpu:x86-64-v3", "both mean x86-64-v3"),
    ],
)
def test_parse_refuses(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        targets.parse(text)
    assert words in str(caught.value)
    assert caught.value.hint


def test_cuda_means_four_architectures() -> None:
    (target,) = targets.parse("cuda")
    assert [gpu.name for gpu in target.gpus] == ["sm_80", "sm_86", "sm_89", "sm_90"]
    assert target.isa.architecture == targets.host_architecture()
    assert target.tvm_json()["arch"] == "sm_80", "one source for all of them"


def test_cuda_takes_architectures_and_a_host() -> None:
    (target,) = targets.parse("cuda:sm_90,sm_80,host=aarch64")
    assert ([gpu.name for gpu in target.gpus], target.isa.name) == (["sm_80", "sm_90"], "aarch64")
    assert target.tvm_json()["host"]["mtriple"].startswith("aarch64")
    assert not targets.parse("cpu")[0].is_gpu


def test_machine_code_runs_within_its_major() -> None:
    gpus = GPUS
    assert gpus["sm_80"].runs_on(86) and gpus["sm_80"].runs_on(80)
    assert not gpus["sm_86"].runs_on(87), "a Tegra board"
    assert not gpus["sm_86"].runs_on(80) and not gpus["sm_80"].runs_on(90) and not gpus["sm_100"].runs_on(90)


@pytest.mark.skipif(targets.host_architecture() != "x86_64", reason="x86-64's registers")
@pytest.mark.parametrize(("name", "register", "absent"), [("x86-64-v3", "%ymm", "%zmm"), ("x86-64-v4", "%zmm", "")])
def test_full_width_vectors_come_out(name: str, register: str, absent: str, tmp_path: Path) -> None:
    """Also of plain loops that LLVM vectorises itself, which prefers half the width on x86-64-v4."""
    target = targets.parse(f"cpu:{name}")[0]
    library = tmp_path / "plain.so"
    tiny_artifacts.build(tiny_artifacts.parse(tiny_artifacts.PLAIN_LOOP), target).export_library(str(library))
    text = subprocess.run(["objdump", "-d", str(library)], check=True, capture_output=True, text=True).stdout
    body = text[text.index("<__tvm_ffi_plain>:") :]
    assert register in body
    assert not absent or absent not in body


def test_precision_is_for_gpus_that_have_it() -> None:
    gpus = targets.parse("cuda:sm_75,sm_90")
    assert [one.precision for one in targets.with_precision(gpus, "fp16")] == ["fp16"]
    assert targets.with_precision(gpus, None) == gpus
    with pytest.raises(UsageError, match="sm_75 has no tf32"):
        targets.with_precision(gpus, "tf32")
    with pytest.raises(UsageError, match="for GPUs only"):
        targets.with_precision(targets.parse("cpu"), "fp16")
    with pytest.raises(UsageError, match="unknown precision 'int4'"):
        targets.with_precision(gpus, "int4")


def test_threads_of_a_run_are_part_of_the_target():
    assert [one.run_threads for one in targets.parse("cpu:x86-64-v4,cpu:x86-64-v3,threads=2")] == [2, 2]
    assert targets.parse("cpu")[0].run_threads == 1
    for text in ("cpu,threads=0", "cpu,threads=two", "cpu,threads=", "cpu,threads=1,threads=2", "cpu,threads=-1"):
        with pytest.raises(UsageError, match="threads= takes one number"):
            targets.parse(text)
    with pytest.raises(UsageError, match="unknown target"):
        targets.parse("threads=2")
