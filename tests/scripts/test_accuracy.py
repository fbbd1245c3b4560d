"""The parts of ``make accuracy`` that judge: distances, intervals, ranks, and that nothing judged was calibrated on."""

import numpy as np
import pytest

from accuracy_check import lines, texts
from accuracy_check.pictures import _ten_views
from accuracy_check.task import Task, assert_disjoint, wilson


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("same", "same", 0)],
)
def test_distances_between_lines(first, second, expected):
    assert lines.distance(first, second) == expected


def test_ranks_share_the_mean_of_equal_values():
    assert texts._ranks([30, 10, 20, 20]).tolist() == [4, 1, 2.5, 2.5]
    assert texts._spearman([1, 2, 3], [10, 100, 1000]) == pytest.approx(1)
    assert texts._spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)


def test_the_interval_of_a_share():
    low, high = wilson(0.985, 200)
    assert (round(low, 4), round(high, 4)) == (0.9568, 0.9949)  # as R's prop.test without correction gives it
    assert wilson(1.0, 200)[1] == pytest.approx(1.0)


def test_what_was_calibrated_on_is_not_judged():
    feeds = [{"x": np.zeros(3, np.float32)}, {"x": np.ones(3, np.float32)}]
    Task("model", feeds[:1], feeds[1:], lambda _found, _exact: {})
    with pytest.raises(AssertionError, match="serve both"):
        Task("model", feeds, [{"x": np.ones(3, np.float32)}], lambda _found, _exact: {})
    with pytest.raises(AssertionError, match="serves both"):
        assert_disjoint([b"a", b"b"], [b"c", b"b"])


def test_ten_views_are_five_places_and_their_mirrors():
    from PIL import Image

    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 300, 3), np.uint8))
    views = list(_ten_views(picture))
    assert len(views) == 10
    assert all(view.shape == (224, 224, 3) for view in views)
    np.testing.assert_array_equal(views[0], views[1][:, ::-1])
    np.testing.assert_array_equal(views[2], np.asarray(picture)[:224, :224])
    np.testing.assert_array_equal(views[8], np.asarray(picture)[-224:, -224:])


def test_lines_are_rendered_as_the_model_wants_them():
    feeds = lines.rendered("A line of text", np.random.default_rng(0))
    assert feeds["x"].shape[:3] == (1, 3, 48)
    assert feeds["x"].dtype == np.float32
    assert -1 <= feeds["x"].min() < feeds["x"].max() <= 1
    words = " ".join(f"word{i}" for i in range(200))
    found = lines._snippets(words, 5, seed=0)
    assert len(found) == 5
    assert all(12 <= len(line) <= 36 and line in words for line in found)
    assert found == lines._snippets(words, 5, seed=0)
