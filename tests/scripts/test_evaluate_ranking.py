"""The worth of a ranking: figures of spaces whose best candidates are known."""

import itertools
import json
import statistics

import pytest
from tuning_records import make

import evaluate_ranking
from onnxkiln.tuning.log import TuningLog


def space(name, latencies):
    records = []
    for n, seconds in enumerate(latencies):
        features = {"n": float(n), "even": float(n % 2 == 0), "sums": 1.0 + n, "per_load": 1.0, "useful": 1.0}
        records.append(make(workload=name, parameters={"n": n}, features=features, seconds=(seconds,)))
    return evaluate_ranking.Space(records)


@pytest.mark.parametrize("picks", [1, 2, 3, 6, 9])
def test_the_chance_of_random_picks_is_that_of_all_draws(picks):
    one = space("a", [2.0, 1.5, 1.02, 1.0, 3.0, 2.5])
    drawn = min(picks - 1, 5)
    losses = [one.loss([0, *draw]) for draw in itertools.combinations(range(1, 6), drawn)]
    good, expected = evaluate_ranking.chance(one, picks)
    assert good == pytest.approx(statistics.fmean(loss <= evaluate_ranking.GOOD for loss in losses))
    assert expected == pytest.approx(statistics.fmean(losses))


def test_a_model_that_has_seen_such_spaces_picks_well():
    """Every other candidate is fast, wherever it stands."""
    spaces = [space(f"{number}", [1.5 + n % 2 + n / 1000 for n in range(1, 41)]) for number in range(10)]
    figures = evaluate_ranking.evaluate(spaces, picks=3, folds=5)
    assert figures["the cost model's"]["good"] == 1.0
    assert figures["only the default"]["good"] == 0.0
    assert 0.3 < figures["random"]["good"] < 1.0
    assert figures["the analytic cost's"]["worst"] > 0  # the formula takes the last ones
    assert all(figure["spaces"] == 10 for figure in figures.values())


def test_the_program(tmp_path, capsys):
    path = tmp_path / "log"
    with TuningLog.open(path) as log:
        for number in range(6):
            log.extend(space(f"{number}", [2.0, 1.0, *[3.0] * 10]).records)
        log.extend([make(workload="failed", status="crash"), make(workload="one")])
    assert evaluate_ranking.main([str(path), "--picks", "2", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["only the default"] == {"spaces": 6, "good": 0.0, "mean": 1.0, "worst": 1.0}
    assert evaluate_ranking.main([str(path)]) == 0
    assert "the cost model's" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no spaces"):
        evaluate_ranking.main([str(path), "--smallest", "20"])
