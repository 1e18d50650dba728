import numpy as np
import pytest

from preferent.annotators.graph import describe, pair_table, pair_votes
from preferent.annotators.posterior import ScoreGraph, dense_covariance, quick_spread, spread
from preferent.core.errors import DataError


def test_components_and_what_the_wins_cannot_order():
    # 0 beats 1, 1 beats 2, 2 beats 0 (a cycle: ordered); 3 beats 4 once; 5 has no vote.
    graph = describe(pair_table(pair_votes([[0, 1], [1, 2], [2, 0], [4, 3]], [1, 1, 1, 0], counts=(6, 1))))
    assert graph.component_I.tolist() == [0, 0, 0, 1, 1, -1]
    assert graph.size_C.tolist() == [3, 2]
    assert graph.ordered_C.tolist() == [True, False]
    assert np.flatnonzero(graph.undefeated_I).tolist() == [3]
    assert np.flatnonzero(graph.winless_I).tolist() == [4]
    notes = "\n".join(graph.notes(list("abcdef")))
    for said in (
        "2 components",
        "1 items ('d') never lost",
        "1 items ('e') never won",
        "2 items ('d', 'e') have one vote",
        "1 items ('f') have no",
    ):
        assert said in notes


def test_a_tie_is_neither_a_win_nor_a_defeat_but_links_both_ways():
    graph = describe(pair_table(pair_votes([[0, 1]], [0.5])))
    assert graph.ordered_C.tolist() == [True]
    assert graph.tie_share == 1.0


def test_repeated_votes_are_counted_and_said():
    graph = describe(pair_table(pair_votes([[0, 1], [1, 0], [0, 1], [0, 2]], [1, 1, 0, 1], annotator_V=[0, 0, 1, 0])))
    assert graph.repeats == 1
    assert "1 votes repeat a pair" in "\n".join(graph.notes())


def test_the_table_depends_neither_on_rows_nor_on_sides():
    rng = np.random.default_rng(0)
    items, outcome, who = (
        rng.permuted(np.tile(np.arange(9), (50, 1)), axis=1)[:, :2],
        rng.choice([0.0, 0.5, 1.0], 50),
        rng.integers(0, 4, 50),
    )
    lengths = rng.uniform(1, 9, 9)
    one = pair_table(pair_votes(items, outcome, annotator_V=who, shown_first_V=items[:, 0], lengths_I=lengths))
    order = rng.permutation(50)
    turned = pair_votes(
        items[order][:, ::-1], 1 - outcome[order], annotator_V=who[order], shown_first_V=items[order][:, 0], lengths_I=lengths
    )
    two = pair_table(turned)
    for name in ("lo_P", "hi_P", "start_P", "annotator_V", "win_V", "first_V", "length_V"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


@pytest.mark.parametrize(
    ("items", "outcome", "more", "said"),
    [
        ([[0, 1], [2, 2]], [1, 0], {}, "row 1: item 2: compared with itself"),
        ([[0, 1]], [0.7], {}, "row 0: outcome 0.7"),
        ([[0, -1]], [1], {}, "row 0: item j -1"),
        ([[0, 1]], [np.nan], {}, "row 0: outcome nan"),
        ([[0, 1]], [1], {"shown_first_V": [2]}, "row 0: shown first 2"),
        ([[0, 1]], [1], {"lengths_I": [1.0, 0.0]}, "row 1: length 0.0"),
        ([[0, 5]], [1], {"counts": (3, 1)}, "row 0: item j 5, allowed are 0 to 2"),
        ([[0.5, 1]], [1], {}, "must be 1 integers"),
        (np.zeros((0, 2), int), [], {}, "at least one vote"),
    ],
)
def test_what_is_no_vote_is_refused_with_its_row(items, outcome, more, said):
    with pytest.raises(DataError, match=said):
        pair_votes(items, outcome, **more)


def _ring(n: int, chords: int, seed: int) -> ScoreGraph:
    rng = np.random.default_rng(seed)
    edges = {(k, (k + 1) % n) for k in range(n)} | {tuple(rng.choice(n, 2, replace=False).tolist()) for _ in range(chords)}
    pairs = np.unique(np.sort(np.array(sorted(edges)), axis=1), axis=0)
    return ScoreGraph(pairs[:, 0], pairs[:, 1], rng.uniform(0.5, 3, len(pairs)), np.full(n, 0.3), np.zeros(n, dtype=np.int64))


def test_exact_variances_in_stacked_components_equal_the_dense_inverse():
    # Three components of sizes 4, 4 and 3, one item alone.
    lo, hi = np.array([0, 1, 2, 0, 4, 5, 6, 8, 9]), np.array([1, 2, 3, 3, 5, 6, 7, 9, 10])
    component = np.array([0] * 4 + [1] * 4 + [2] * 3 + [-1])
    graph = ScoreGraph(lo, hi, np.arange(1.0, 10.0), np.full(12, 0.5), component)
    covariance = dense_covariance(graph)
    asked = np.array([[0, 2], [3, 0], [5, 4], [10, 8], [0, 4], [11, 2]])
    found = spread(graph, asked, rng=np.random.default_rng(0))
    np.testing.assert_allclose(found.variance_I, np.diag(covariance), rtol=1e-10)
    i, j = asked.T
    np.testing.assert_allclose(found.gap_variance_Q, covariance[i, i] + covariance[j, j] - 2 * covariance[i, j], rtol=1e-10)


def test_sampled_variances_of_a_large_component_are_close_to_the_exact_ones():
    graph = _ring(300, 900, 0)
    asked = np.stack([graph.lo_P, graph.hi_P], 1)
    exact = spread(graph, asked, rng=np.random.default_rng(0))
    sampled = spread(graph, asked, rng=np.random.default_rng(0), dense=10)
    assert "Rao-Blackwellised" in sampled.method
    assert "exact" in exact.method
    np.testing.assert_allclose(sampled.variance_I, exact.variance_I, rtol=0.15)
    np.testing.assert_allclose(sampled.gap_variance_Q, exact.gap_variance_Q, rtol=0.15)
    quick = quick_spread(graph, dense=10)
    assert (quick.variance_I <= exact.variance_I * (1 + 1e-9)).all()
    np.testing.assert_allclose(quick.variance_I, exact.variance_I, rtol=0.4)
