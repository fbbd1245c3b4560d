"""The C++ host of the documentation: built, and run on artifacts without any Python in the process."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tiny_artifacts
import tvm_ffi
from source_tree import ROOT

from onnxkiln.artifacts.loader import choose_library
from onnxkiln.artifacts.opening import OpenArtifact

HOST = ROOT / "docs" / "c_host"
FFI = Path(tvm_ffi.__file__).parent
COMPILER = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler on this machine")

THREADS = """
#include "onnxkiln.hpp"
#include <cstdio>
#include <thread>
int main(int, char** arguments) {
  onnxkiln::Session first(arguments[1], 2);
  std::vector<std::thread> threads;
  bool right = true;
  for (int n = 0; n < 4; ++n)
    threads.emplace_back([&right, first, n]() mutable {
      std::vector<float> x(1024, float(n));
      for (int run = 0; run < 200; ++run) {
        auto y = first.run({onnxkiln::view(x.data(), {1024}, DLDataType{kDLFloat, 32, 1})});
        const float* values = static_cast<const float*>(y[0].data_ptr());
        if (values[0] != 0.0f || values[1023] != 2.0f * n) right = false;
      }
    });
  for (std::thread& thread : threads) thread.join();
  std::printf("%s", right ? "right" : "wrong");
}
"""


def build(source, folder):
    """The program that a C++ file makes, with the command of the documentation."""
    command = [COMPILER, "-std=c++17", "-O0", "-Wall", "-Wextra", "-Werror", "-isystem", FFI / "include", f"-I{HOST}"]
    # -Xlinker, for -Wl would split a path at its commas.
    libraries = [f"-L{FFI / 'lib'}", "-ltvm_ffi", "-ldl", "-pthread", "-Xlinker", "-rpath", "-Xlinker", FFI / "lib"]
    subprocess.run([*command, source, "-o", folder / "program", *libraries], check=True)
    return folder / "program"


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    return build(HOST / "host.cpp", tmp_path_factory.mktemp("host"))


def run(program, *arguments, feed=b"", environment=None):
    return subprocess.run([program, *arguments], input=feed, capture_output=True, env=environment or {}, check=False)


def test_outputs_are_those_of_the_formula(host, scale):
    x = np.random.default_rng(0).standard_normal(1024, dtype=np.float32)
    done = run(host, scale, feed=x.tobytes())
    assert done.returncode == 0, done.stderr
    expected = x * tiny_artifacts.scale_weights() + x
    np.testing.assert_allclose(np.frombuffer(done.stdout, np.float32), expected, rtol=1e-6, atol=1e-7)
    assert done.stderr == b"float32 [1024]\n"


@pytest.mark.parametrize("rows", [0, 1, 7])
def test_open_dims_take_their_sizes(host, add, rows):
    a, b = np.random.default_rng(rows).standard_normal((2, rows, 4), dtype=np.float32)
    done = run(host, add, f"rows={rows}", feed=a.tobytes() + b.tobytes())
    assert done.returncode == 0, done.stderr
    total, again = np.frombuffer(done.stdout, np.float32).reshape(2, rows, 4)
    np.testing.assert_array_equal(total, a + b)
    np.testing.assert_array_equal(again, total + b)


def libraries_of(host, artifact):
    """Names of the libraries that the process opens, as the dynamic linker tells it."""
    done = run(host, artifact, feed=bytes(4096), environment={"LD_DEBUG": "files"})
    assert done.returncode == 0
    lines = done.stderr.decode().splitlines()
    return {Path(line.split("calling init: ", 1)[1]).name for line in lines if "calling init: " in line}


def test_of_several_libraries_the_loaders_choice_is_opened(host, tmp_path):
    artifact = tiny_artifacts.write(tiny_artifacts.scale_request(target="cpu:x86-64-v1,cpu:x86-64-v3"), tmp_path)
    with OpenArtifact(artifact) as opened:
        best = choose_library(opened.manifest).path
    assert {name for name in libraries_of(host, artifact) if name.startswith("model")} == {best}


def test_the_process_holds_no_python_and_no_compiler(host, scale):
    opened = libraries_of(host, scale)
    assert {"libtvm_runtime.so", "libtvm_ffi.so", "model.so"} <= opened
    assert not [name for name in opened if "python" in name or "compiler" in name]


def test_sessions_of_several_threads(scale, tmp_path):
    (tmp_path / "threads.cpp").write_text(THREADS)
    done = run(build(tmp_path / "threads.cpp", tmp_path), scale)
    assert (done.returncode, done.stdout) == (0, b"right"), done.stderr


def _foreign(document):
    document["libraries"][0]["features"].append("warp-drive")


def _no_runtime(document):
    document.update(runtime=None)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: shutil.rmtree(folder), "no manifest.json can be read"),
        (lambda folder: (folder / "weights.bin").unlink(), "weights.bin is missing"),
        (lambda folder: os.truncate(folder / "model.so", 100), "model.so is not of the size that the manifest says"),
        (lambda folder: tiny_artifacts.edit_manifest(folder, _foreign), "needs warp-drive"),
        (lambda folder: tiny_artifacts.edit_manifest(folder, _no_runtime), "carries no TVM runtime"),
        (lambda folder: tiny_artifacts.edit_manifest(folder, lambda d: d.update(schema="2.0")), "found 2.0"),
    ],
)
def test_what_cannot_be_used_is_refused_with_words(host, copy, damage, words):
    folder = copy()
    damage(folder)
    done = run(host, folder, feed=bytes(4096))
    assert done.returncode == 1
    assert words in done.stderr.decode()


def test_feeds_that_do_not_fit_are_refused_with_words(host, scale, add):
    assert "too few bytes for input x" in run(host, scale, feed=b"1234").stderr.decode()
    assert "give rows=SIZE" in run(host, add).stderr.decode()
    assert "usage" in run(host).stderr.decode()


def test_the_bundled_runtime_is_the_one_that_is_opened(scale):
    """So the tests above say something about a machine without TVM."""
    manifest = json.loads((scale / "manifest.json").read_text())
    assert manifest["runtime"] == "runtime/libtvm_runtime.so"
