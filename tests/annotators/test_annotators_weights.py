"""Votes with weights in the models of groups, attributes and hidden context: a vote of weight 2 is the vote twice."""

from __future__ import annotations

import numpy as np
import pytest

from preferent.annotators.attributes import fit_attributes
from preferent.annotators.graph import PairVotes, pair_votes
from preferent.annotators.hidden_context import fit_distributional
from preferent.annotators.mixture import MixtureSettings, fit_mixture


@pytest.fixture(scope="module")
def worlds() -> tuple[PairVotes, PairVotes]:
    """(some votes of weight 2, those votes twice): two groups of twelve people, ten responses."""
    rng = np.random.default_rng(0)
    scores = np.stack([np.linspace(-2, 2, 10), rng.permutation(np.linspace(-2, 2, 10))])
    who = np.repeat(np.arange(24), 25)
    i = rng.integers(0, 10, len(who))
    j = (i + rng.integers(1, 10, len(who))) % 10
    won = (rng.random(len(who)) < 1 / (1 + np.exp(scores[who % 2, j] - scores[who % 2, i]))).astype(float)
    heavy = rng.random(len(who)) < 0.3
    rows = np.concatenate([np.arange(len(who)), np.flatnonzero(heavy)])
    weighted = pair_votes(np.stack([i, j], 1), won, annotator_V=who, weight_V=1.0 + heavy)
    twice = pair_votes(np.stack([i, j], 1)[rows], won[rows], annotator_V=who[rows])
    return weighted, twice


def test_a_mixture_counts_weights(worlds: tuple[PairVotes, PairVotes]) -> None:
    settings = MixtureSettings(groups=2, restarts=0, tolerance=1e-9)
    one, two = (fit_mixture(votes, settings) for votes in worlds)
    assert one.n_groups == 2
    np.testing.assert_allclose(one.membership_AK, two.membership_AK, atol=1e-4)
    np.testing.assert_allclose(one.gap.value, two.gap.value, atol=1e-3)
    np.testing.assert_allclose(one.gap.low, two.gap.low, atol=2e-3)
    assert one.log_likelihood == pytest.approx(two.log_likelihood, abs=1e-2)


def test_attributes_count_weights(worlds: tuple[PairVotes, PairVotes]) -> None:
    columns = {"side": ["left", "right"] * 12}
    one, two = (fit_attributes(votes, columns) for votes in worlds)
    np.testing.assert_allclose(one.gap.value, two.gap.value, atol=1e-4)
    np.testing.assert_allclose(one.gap.high, two.gap.high, atol=1e-4)
    assert one.spread["side"] == pytest.approx(two.spread["side"], rel=1e-3)


def test_hidden_context_counts_weights(worlds: tuple[PairVotes, PairVotes]) -> None:
    one, two = (fit_distributional(votes) for votes in worlds)
    np.testing.assert_allclose(one.mean_I, two.mean_I, atol=1e-3)
    np.testing.assert_allclose(one.sd_I, two.sd_I, atol=1e-3)


def test_a_weight_below_one_counts_less(worlds: tuple[PairVotes, PairVotes]) -> None:
    votes = worlds[1]
    half = pair_votes(
        np.stack([votes.item_i_V, votes.item_j_V], 1), votes.outcome_V, annotator_V=votes.annotator_V, weight_V=np.full(len(votes), 0.25)
    )
    assert np.abs(fit_distributional(half).mean_I).mean() < np.abs(fit_distributional(votes).mean_I).mean()
    full, less = (fit_attributes(one, {"side": ["left", "right"] * 12}).gap for one in (votes, half))
    assert ((less.high - less.low) > (full.high - full.low)).all()
