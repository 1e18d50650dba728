"""Baselines and slices on examples small enough to count."""

import numpy as np
import pytest

from preferent.audits.baselines import held_out_annotator, longer_hits
from preferent.audits.slices import (
    LENGTH_BUCKETS,
    MATCHED,
    MAX_SOURCES,
    STRENGTH_BUCKETS,
    length_buckets,
    slice_masks,
    strength_buckets,
)


def test_the_longer_side():
    chars_a_N, chars_b_N = np.array([10.0, 3.0, 5.0, 9.0]), np.array([4.0, 8.0, 5.0, 1.0])
    p_N = np.array([1.0, 1.0, 0.0, 0.5])
    np.testing.assert_array_equal(longer_hits(chars_a_N, chars_b_N, p_N), [1.0, 0.0, 0.5, np.nan])


def test_one_held_out_annotator_by_hand():
    votes = [
        (1.0, 1.0, 0.0),  # leaving out a 1: the others are split (left out), twice; leaving out the 0: majority 1, wrong
        (1.0, 1.0, 1.0),  # three times right
        (1.0, 0.0),  # each predicts the other: wrong twice
        (0.5, 1.0, 1.0),  # leaving out .5: majority 1, a half; leaving out a 1: others lean to 1, right, twice
        (1.0,),  # nobody left to predict
        (),
    ]
    found = held_out_annotator(votes, np.array([1.0, -1.0, 2.0, 0.0, 1.0, 1.0]))
    np.testing.assert_allclose(found.annotator_N, [0.0, 1.0, 0.0, (0.5 + 1 + 1) / 3, np.nan, np.nan])
    # the scorer prefers a, b, a, neither: right on the one target; wrong thrice; right on one of two (targets 0 and 1); half
    np.testing.assert_allclose(found.scorer_N, [1.0, 0.0, 0.5, 0.5, np.nan, np.nan])
    assert (found.n_votes, found.n_undecided) == (1 + 3 + 2 + 3, 2)


def test_annotator_is_swap_invariant():
    rng = np.random.default_rng(0)
    votes = [tuple(rng.choice([0.0, 0.5, 1.0, 0.25], size=rng.integers(0, 6))) for _ in range(50)]
    margin_N = rng.normal(size=50)
    one = held_out_annotator(votes, margin_N)
    two = held_out_annotator([tuple(1 - v for v in row) for row in votes], -margin_N)
    np.testing.assert_allclose(one.annotator_N, two.annotator_N)
    np.testing.assert_allclose(one.scorer_N, two.scorer_N)
    assert one.n_votes == two.n_votes


@pytest.mark.parametrize(
    ("preferred", "other", "bucket"),
    [
        (40, 100, "preferred much shorter"),
        (50, 100, "preferred shorter"),  # exactly half is not yet much
        (89, 100, "preferred shorter"),
        (90, 100, MATCHED),  # exactly 90 %
        (100, 100, MATCHED),
        (100, 90, MATCHED),
        (100, 89, "preferred longer"),
        (100, 49, "preferred much longer"),
        (0, 0, MATCHED),
        (5, 0, "preferred much longer"),
    ],
)
def test_length_buckets(preferred, other, bucket):
    a, b = np.array([float(preferred)]), np.array([float(other)])
    assert LENGTH_BUCKETS[length_buckets(a, b, np.array([0.8]))[0]] == bucket
    assert LENGTH_BUCKETS[length_buckets(b, a, np.array([0.2]))[0]] == bucket


def test_strength_buckets_do_not_depend_on_the_side():
    p_N = np.array([0.55, 0.6, 0.74, 0.75, 0.9, 1.0])
    expected = [0, 1, 1, 2, 3, 3]
    np.testing.assert_array_equal(strength_buckets(p_N), expected)
    np.testing.assert_array_equal(strength_buckets(1 - p_N), expected)
    assert len(STRENGTH_BUCKETS) == 4


def test_every_decided_pair_is_in_one_slice_of_each_group():
    rng = np.random.default_rng(0)
    n = 300
    sources = [None if k % 7 == 0 else f"s{k % 60}" for k in range(n)]
    p_N = rng.choice([0.0, 0.3, 0.5, 0.58, 0.8, 1.0], n)
    masks = slice_masks(sources, rng.integers(1, 99, n).astype(float), rng.integers(1, 99, n).astype(float), p_N)
    for group in ("length", "strength", "source"):
        total = np.sum([mask for (member, _), mask in masks.items() if member == group], axis=0)
        np.testing.assert_array_equal(total, (p_N != 0.5).astype(int))
    names = [name for group, name in masks if group == "source"]
    assert len(names) == MAX_SOURCES + 1
    assert "(no source)" in names
    assert names[-1].startswith("(")
    assert "smaller sources together" in names[-1]
