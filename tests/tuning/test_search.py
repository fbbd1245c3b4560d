"""Which candidate comes next: defaults first, then where most is to gain, and leaders are confirmed."""

import tuning_cases as cases

from onnxkiln.tuning import search as search_module
from onnxkiln.tuning.ranking import ranked, similar_choices
from onnxkiln.tuning.search import CONFIRMED, PATIENCE, Search, candidate_key


def run(search, latency, most=500, closing=lambda count: False):
    """Measure what ``search`` asks for by ``latency(task, parameters)``; what was measured, in order."""
    made = []
    while len(made) < most:
        job = search.next(closing(len(made)))
        if job is None:
            return made
        seconds = latency(job.search.task, job.parameters)
        status = "ok" if seconds is not None else "crash"
        job.search.tell(job.parameters, cases.record_of(job.search.task, job.parameters, seconds, status))
        made.append((job.search.task, candidate_key(job.parameters)))
    return made


def two_tasks():
    first, second = cases.tasks(12, repeat=5)
    return first, second, Search([cases.search_of(first), cases.search_of(second)])


def test_defaults_come_first_the_longest_of_all():
    first, second, search = two_tasks()
    made = run(search, lambda task, _: 1e-3)
    assert made[:2] == [(second, candidate_key(second.choices.default)), (first, candidate_key(first.choices.default))]


def test_no_candidate_is_tried_twice_and_patience_ends_it():
    first, _, search = two_tasks()
    made = run(search, lambda task, parameters: 1e-3 if parameters == task.choices.default else 2e-3)
    assert len({(task.workload, key) for task, key in made}) == len(made)
    assert sum(task is first for task, _ in made) == 1 + min(PATIENCE, len(first.choices.candidates) - 1)


def test_time_goes_where_most_is_to_gain():
    first, second, search = two_tasks()
    # The second task is called five times and takes a hundred times longer.
    made = run(search, lambda task, _: 1e-5 if task is first else 1e-3, most=2 + PATIENCE)
    assert sum(task is second for task, _ in made[2:]) == PATIENCE


def test_a_leader_is_confirmed_beside_the_default():
    first, _, _ = two_tasks()
    search = Search([cases.search_of(first)])
    lucky = candidate_key(first.choices.candidates[3])
    seen = {}

    def latency(task, parameters):
        key = candidate_key(parameters)
        seen[key] = seen.get(key, 0) + 1
        if key == lucky:
            return 0.5e-3 if seen[key] == 1 else 2e-3  # fast once
        return 1e-3

    run(search, latency)
    one = search.tasks[0]
    assert seen[lucky] > 1 and one.leader != lucky
    assert search.unconfirmed() == 0


def test_closing_confirms_only():
    first, _, _ = two_tasks()
    search = Search([cases.search_of(first)])
    faster = candidate_key(first.choices.candidates[1])
    made = run(search, lambda _, p: 1e-4 if candidate_key(p) == faster else 1e-3, closing=lambda count: count >= 2)
    counts = [sum(key == one for _, key in made) for one in (candidate_key(first.choices.default), faster)]
    assert counts == [CONFIRMED, CONFIRMED] and len(made) == 2 * CONFIRMED


def test_what_fails_is_never_the_leader_and_a_failing_default_ends_the_task():
    first, second, search = two_tasks()
    bad = candidate_key(first.choices.candidates[2])

    def latency(task, parameters):
        if task is second:
            return None
        return None if candidate_key(parameters) == bad else 1e-3

    made = run(search, latency)
    assert sum(task is second for task, _ in made) == 1
    assert bad in search.tasks[0].failed and search.tasks[0].leader != bad


def test_the_order_holds_all_candidates_and_depends_on_the_seed_alone():
    first, _ = cases.tasks(12)
    orders = [[candidate_key(c) for c in ranked(first, cases.HOST, [], seed)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == sorted(candidate_key(c) for c in first.choices.candidates)
    assert orders[0][0] == candidate_key(first.choices.default)


def test_what_was_best_for_the_nearest_task_is_tried_first():
    first, second = cases.tasks(12)
    best, good, slow = ({"tile": 3, "blocks": 2}, {"tile": 2, "blocks": 3}, {"tile": 1, "blocks": 1})
    known = [cases.record_of(second, p, s) for p, s in ((slow, 3e-3), (best, 1e-3), (good, 2e-3), (best, 1e-3))]
    known += [cases.record_of(second, {"tile": 4, "blocks": 1}, None, "wrong")]
    far = cases.record_of(second, {"tile": 6, "blocks": 1}, 1e-6, workload="f" * 64, features={"rows": 4096.0})
    assert similar_choices(first, [*known, far]) == [best, good, slow]
    assert ranked(first, cases.HOST, known, 0)[:3] == [first.choices.default, best, good]
    assert similar_choices(second, known) == [best, good, slow]  # as another machine or number of threads had it
    assert similar_choices(second, [far]) == [{"tile": 6, "blocks": 1}]


def test_guesses_are_positive():
    assert all(search_module.guessed_seconds(task) > 0 for task in cases.tasks("n"))
