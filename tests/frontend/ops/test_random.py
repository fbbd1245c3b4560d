"""Random numbers: how they are distributed, that seeds and positions tell them apart, that runs repeat them."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx_check import Compiled, case, check_cases

from onnxkiln.errors import ConversionError

TEXT = """<ir_version: 10, opset_import: ["" : 22]>
    f (float[n, 7] x, double[n] wide, float16[n] half, float[n, 3] logs) => (float[a] u, float[b, c] v, double[d] w,
        float16[e] h, double[g] nd, float[p, q] coin, int64[r, s] dice, float[t, z] other) {
        u = RandomUniform<shape = [50000], low = -2.0, high = 3.0, seed = 1.0>()
        v = RandomNormalLike<mean = 5.0, scale = 2.0>(x)
        w = RandomUniformLike<seed = 1.0>(wide)
        h = RandomUniformLike<seed = 2.0>(half)
        nd = RandomNormalLike(wide)
        coin = Bernoulli<seed = 3.0>(x)
        dice = Multinomial<sample_size = 200, dtype = 7>(logs)
        other = RandomNormalLike<mean = 5.0, scale = 2.0>(x)
    }"""


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    compiled = Compiled(onnx.parser.parse_model(TEXT))
    count = 9001
    chances = np.tile(np.linspace(0, 1, 7, dtype=np.float32), (count, 1))
    logs = np.tile(np.array([np.log(0.2), -np.inf, np.log(0.8)], np.float32), (count, 1))
    feed = {"x": chances, "wide": np.zeros(count), "half": np.zeros(count, np.float16), "logs": logs}
    first, second = compiled(feed), compiled(feed)
    names = [output.name for output in onnx.parser.parse_model(TEXT).graph.output]
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    return dict(zip(names, first, strict=True))


def _is_uniform(values: np.ndarray, low: float, high: float) -> None:
    """Pearson's test over 50 equal parts: 49 degrees of freedom, of which 100 is exceeded once in 40,000 times."""
    assert values.min() >= low and values.max() < high
    counts = np.histogram(values, 50, (low, high))[0]
    expected = values.size / 50
    assert ((counts - expected) ** 2 / expected).sum() < 100
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 4 / math.sqrt(values.size)


def test_uniform(drawn: dict[str, np.ndarray]) -> None:
    _is_uniform(drawn["u"].astype(np.float64), -2, 3)
    _is_uniform(drawn["w"], 0, 1)
    assert len(np.unique(drawn["w"])) == 9001  # 53 bits don't repeat
    assert drawn["h"].dtype == np.float16 and 0.48 < drawn["h"].astype(np.float64).mean() < 0.52


def test_normal(drawn: dict[str, np.ndarray]) -> None:
    for values, mean, scale in ((drawn["v"].astype(np.float64).ravel(), 5, 2), (drawn["nd"], 0, 1)):
        ranks = [0.5 * (1 + math.erf((x - mean) / scale / math.sqrt(2))) for x in values[:9001]]
        _is_uniform(np.array(ranks), 0, 1)


def test_nodes_without_seed_differ_by_name(drawn: dict[str, np.ndarray]) -> None:
    a, b = drawn["v"].ravel(), drawn["other"].ravel()
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / math.sqrt(a.size)


def test_coins_and_dice(drawn: dict[str, np.ndarray]) -> None:
    assert set(np.unique(drawn["coin"])) == {0.0, 1.0}
    np.testing.assert_allclose(drawn["coin"].mean(0), np.linspace(0, 1, 7), atol=0.03)
    assert drawn["dice"].shape == (9001, 200) and drawn["dice"].dtype == np.int64
    np.testing.assert_allclose([(drawn["dice"] == k).mean() for k in range(3)], [0.2, 0, 0.8], atol=0.002)


def test_no_elements_and_refusals() -> None:
    check_cases([case("RandomNormalLike", np.zeros((0, 3), np.float32), expected=np.zeros((0, 3), np.float32))])
    with pytest.raises(ConversionError, match="random numbers of int64 are not supported"):
        check_cases([case("RandomUniformLike", np.zeros(3, np.int64), expected=np.zeros(3))])
