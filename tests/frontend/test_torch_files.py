"""Files of both exporters of torch.onnx.export (scripts/torch_export.py --record), with PyTorch's own answers.

Some keep their weights beside them, some hold control flow, sequences, or sizes that the data decides.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import onnxkiln

FOLDER = Path(__file__).parent.parent / "models" / "torch"
FILES = sorted(FOLDER.glob("*.onnx"))


def test_files_of_both_exporters_are_here() -> None:
    assert {path.name.split(".")[1] for path in FILES} == {"dynamo", "torchscript"} and len(FILES) >= 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_pytorchs_answers(path: Path, tmp_path: Path) -> None:
    recorded = np.load(path.with_suffix(".npz"))
    numbers = sorted({key.split(".")[0] for key in recorded})
    assert len(numbers) > 1, "one size is no test of open dims"
    with onnxkiln.load(onnxkiln.compile(path, tmp_path / "artifact")) as session:
        for number in numbers:
            feeds = {item.name: recorded[f"{number}.{item.name}"] for item in session.get_inputs()}
            for index, found in enumerate(session.run(None, feeds)):
                wanted = recorded[f"{number}.output_{index}"]
                assert found.dtype == wanted.dtype
                np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
