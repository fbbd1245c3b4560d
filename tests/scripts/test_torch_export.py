"""torch.onnx.export, live, where torch is installed: the documented lines and the script."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is optional; tests/frontend/test_torch_files.py needs none")

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "torch.md"


@pytest.fixture
def documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with the document's code in example.py and older.py (the same by the older exporter)."""
    monkeypatch.chdir(tmp_path)
    code, older = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "example.py").write_text(code, encoding="utf-8")
    lines = [older.strip() if line.startswith("torch.onnx.export(") else line for line in code.splitlines()]
    (tmp_path / "older.py").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("file", ["example.py", "older.py"])
def test_the_documented_lines(documented: Path, file: str) -> None:
    made = runpy.run_path(str(documented / file))
    with torch.no_grad():
        wanted = made["net"](made["x"][:1]).numpy()
    np.testing.assert_allclose(made["y"], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["classifier", "lstm", "chosen"])
def test_the_script(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch_export

    assert torch_export.main([name, "--opsets", "18", "--keep", str(tmp_path), "--record"]) == 0
    assert "2 exports: 2 right" in capsys.readouterr().out
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_a_difference_is_found() -> None:
    from torch_modules.check import difference

    one = np.ones(3, np.float32)
    assert difference([one], [one]) == ("", 0.0)
    assert difference([one * 1.001], [one])[0] == "output 0: 9.09 times the tolerance"
    assert difference([one], [one.astype(np.float64)])[0].startswith("output 0: float32(3,), not float64")
    assert difference(None, [one])[0] == "refused" and difference(None, None)[0] == ""
    assert difference([np.array([1])], [np.array([2])])[0] == "output 0: 1 of 1 elements differ"
