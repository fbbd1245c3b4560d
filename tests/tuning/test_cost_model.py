"""Ranking by what was measured: better than chance on shapes it hasn't seen, and the same every time."""

import math
import random
import statistics
import sys

import pytest
from tuning_records import make

from onnxkiln.errors import ToolchainError
from onnxkiln.tuning.cost_model import MIN_RECORDS, CostModel, rank

pytest.importorskip("xgboost")


def measured(name, seed, status="ok"):
    """A machine in a formula: register tiles, those that spill, and tails that don't divide."""
    luck = random.Random(f"{name} {seed}")
    rows, depth = luck.choice([49, 196, 784, 3136]), luck.choice([64, 128, 256, 512, 1152])
    records = []
    for tile in range(1, 13):
        for blocks in (1, 2, 4):
            useful = rows / (math.ceil(rows / tile) * tile)
            speed = useful * min(1, tile * blocks / (tile + blocks) / 2.2) * (0.4 if tile * blocks > 28 else 1)
            features = {"rows": rows, "depth": depth, "tile": tile, "blocks": blocks, "useful": useful}
            seconds = (rows * depth / speed / 1e8 * luck.uniform(0.98, 1.02),) if status == "ok" else ()
            parameters = {"tile": tile, "blocks": blocks}
            records.append(
                make(workload=name, parameters=parameters, features=features, seconds=seconds, status=status)
            )
    return records


@pytest.fixture(scope="module")
def known():
    return [record for number in range(8) for record in measured(f"known {number}", 1)]


def best_share(records, picks):
    """Speed of the best pick beside the fastest of all."""
    return min(one.latency for one in records) / min(records[index].latency for index in picks)


def test_its_first_picks_are_better_than_random_ones_on_unseen_shapes(known):
    model, luck = CostModel.train(known), random.Random(5)
    ours, random_ones = [], []
    for number in range(8):
        group = measured(f"unseen {number}", 2)
        luck.shuffle(group)
        ours.append(best_share(group, model.rank([one.features for one in group])[:3]))
        random_ones.append(best_share(group, luck.sample(range(len(group)), 3)))
    assert statistics.mean(ours) > 0.95
    assert statistics.mean(ours) > statistics.mean(random_ones) + 0.03


def test_the_same_records_in_any_order_give_the_same_ranking(known):
    features = [one.features for one in measured("unseen", 3)]
    shuffled = random.Random(1).sample(known, len(known))
    first, second = CostModel.train(known, seed=7), CostModel.train(shuffled, seed=7)
    assert first.scores(features) == second.scores(features)
    assert first.rank(features) == second.rank(features)


def test_what_failed_is_ranked_last():
    luck = random.Random(3)
    records = []
    for number in range(6):
        for one in measured(f"{number}", 1):
            fails = one.parameters["tile"] > 9
            records.append(make(
                workload=f"{number}", parameters=one.parameters, features=one.features,
                **({"status": luck.choice(["crash", "timeout", "wrong"])} if fails else {"seconds": one.seconds}),
            ))  # fmt: skip
    group = measured("unseen", 1)
    ranked = CostModel.train(records).rank([one.features for one in group])
    assert all(group[index].parameters["tile"] > 9 for index in ranked[-9:])


def test_with_too_little_to_learn_from_the_given_order_stands():
    assert CostModel.train([]) is None
    assert CostModel.train(measured("one", 1)[: MIN_RECORDS - 1]) is None
    # Nothing compares where every workload was measured once.
    assert CostModel.train([measured(f"{number}", 1)[0] for number in range(MIN_RECORDS)]) is None
    assert rank(None, [{"rows": 1.0}] * 3) == [0, 1, 2]
    assert rank(None, []) == []


def test_the_analytic_choice_stays_first(known):
    features = [one.features for one in measured("unseen", 1)]
    model = CostModel.train(known)
    ranked = rank(model, features)
    assert ranked[0] == 0 and sorted(ranked) == list(range(len(features)))
    assert model.rank(features)[0] != 0


def test_features_may_be_missing_or_new(known):
    model = CostModel.train([*known, *(make(workload="w", parameters={"n": n}, features={}) for n in range(3))])
    assert len(model.scores([{}, {"unheard of": 1.0}])) == 2
    assert model.scores([]) == []


def test_all_failed_is_nothing_to_prefer():
    group = measured("one", 1, status="crash")
    scores = CostModel.train(group).scores([one.features for one in group])
    assert all(map(math.isfinite, scores))


def test_without_xgboost_the_cure_is_said(known, monkeypatch):
    monkeypatch.setitem(sys.modules, "xgboost", None)
    with pytest.raises(ToolchainError, match="XGBoost") as refused:
        CostModel.train(known)
    assert "onnxkiln[tune]" in refused.value.hint
