"""The best of several measurements."""

from tuning_records import make

from onnxkiln.tuning.selection import best, ranked

A, B, C = {"pixels": 1}, {"pixels": 2}, {"pixels": 3}


def at(parameters, milliseconds, **changes):
    return make(parameters=parameters, seconds=(milliseconds * 1e-3,), **changes)


def failed(parameters, status, **changes):
    return make(parameters=parameters, status=status, **changes)


def test_nothing_of_nothing():
    assert best([]) is None
    assert best([failed(A, "crash"), failed(B, "wrong"), failed(C, "timeout")]) is None


def test_the_fastest_wins():
    assert best([at(A, 2), at(B, 1), at(C, 3), failed(A, "error")]).parameters == B


def test_several_measurements_of_a_candidate_count_as_their_median():
    lucky = [at(A, 1), at(A, 9), at(A, 9)]
    assert best([*lucky, at(B, 5), at(B, 6), at(B, 7)]).seconds == (6e-3,)
    assert best([at(A, 1), at(A, 9), at(B, 4), at(B, 5)]).parameters == B


def test_what_was_confirmed_goes_before_what_was_lucky_once():
    confirmed = [at(A, 5), at(A, 6), at(A, 7)]
    assert best([*confirmed, at(B, 1)]).parameters == A
    assert best([*confirmed, *[at(B, 1)] * 3]).parameters == B
    assert best([*confirmed, *[at(A, 6)] * 5, *[at(B, 1)] * 3]).parameters == B
    # Twice is more than once, where nothing was measured three times.
    assert best([at(A, 5), at(A, 6), at(B, 1), at(C, 4)]).parameters == A
    assert list(ranked([*confirmed, at(B, 1), at(C, 3)]).values()) == [6e-3, 1e-3, 3e-3]


def test_of_equals_within_the_noise_the_first_measured_is_taken():
    default = at(A, 1.005, when="2026-01-01T00:00:00Z")
    assert best([at(B, 1, when="2026-02-01T00:00:00Z"), default]).parameters == A
    assert best([at(B, 1, when="2025-12-01T00:00:00Z"), default]).parameters == B
    assert best([at(B, 0.98, when="2026-02-01T00:00:00Z"), default]).parameters == B
    confirmed = [at(B, 1, when="2026-02-01T00:00:00Z")] * 3
    assert best([*confirmed, default]).parameters == B  # measured once counts less


def test_what_was_ever_wrong_is_never_chosen_on_any_machine():
    good = at(A, 1, when="2026-02-01T00:00:00Z")
    wrong = failed(A, "wrong", machine="another", when="2026-01-01T00:00:00Z")
    assert best([good, wrong, at(B, 5)]).parameters == B


def test_of_crashes_the_latest_verdict_counts():
    crashed = failed(A, "crash", when="2026-02-01T00:00:00Z")
    assert best([at(A, 1, when="2026-01-01T00:00:00Z"), crashed, at(B, 5)]).parameters == B
    assert best([at(A, 1, when="2026-03-01T00:00:00Z"), crashed, at(B, 5)]).parameters == A


def test_algorithms_and_template_versions_are_different_candidates():
    assert best([at(A, 2), at(A, 1, algorithm="winograd_f4"), failed(A, "wrong")]).algorithm == "winograd_f4"
    assert best([at(A, 1, template_version=2), failed(A, "crash", template_version=1)]).template_version == 2


def test_seconds_of_different_machines_do_not_compare():
    """On the fast machine B wins by far and on the slow one A by a little: B is slowed least, whatever the seconds."""
    fast = [at(A, 2, machine="fast"), at(B, 1, machine="fast")]
    slow = [at(A, 100, machine="slow"), at(B, 110, machine="slow"), at(C, 400, machine="slow")]
    assert best([*fast, *slow]).parameters == B
    assert best([*slow, *fast]).parameters == B


def test_the_order_does_not_matter_where_two_are_equal():
    one, other = at(A, 1), at(B, 1)
    assert best([one, other]).parameters == best([other, one]).parameters
