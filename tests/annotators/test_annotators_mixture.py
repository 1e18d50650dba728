import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import comb

from preferent.annotators.attributes import fit_attributes
from preferent.annotators.convergence import falls
from preferent.annotators.graph import pair_table, pair_votes
from preferent.annotators.group_scores import CellVotes, _loss
from preferent.annotators.mixture import MixtureSettings, fit_mixture
from preferent.core.errors import ConfigError, DataError


def world(seed, *, groups=2, annotators=60, each=20, items=20, sd=1.5):
    """Votes of annotators who belong to groups with unrelated scores; (votes, group_A, scores_KI)."""
    rng = np.random.default_rng(seed)
    scores_KI, group_A = rng.normal(0, sd, (groups, items)), rng.integers(0, groups, annotators)
    who = np.repeat(np.arange(annotators), each)
    i = rng.integers(0, items, len(who))
    j = (i + rng.integers(1, items, len(who))) % items
    gap = scores_KI[group_A[who], i] - scores_KI[group_A[who], j]
    outcome = (rng.random(len(who)) < 1 / (1 + np.exp(-gap))).astype(float)
    return pair_votes(np.stack([i, j], 1), outcome, annotator_V=who, counts=(items, annotators)), group_A, scores_KI


def adjusted_rand(one, two):
    table = np.zeros((one.max() + 1, two.max() + 1))
    np.add.at(table, (one, two), 1)
    both, first, second = comb(table, 2).sum(), comb(table.sum(1), 2).sum(), comb(table.sum(0), 2).sum()
    expected = first * second / comb(len(one), 2)
    return (both - expected) / ((first + second) / 2 - expected)


def test_two_planted_groups_are_found_at_twenty_votes_each():
    found = [(fit_mixture(votes), group_A) for votes, group_A, _ in (world(seed) for seed in range(6))]
    assert [fit.n_groups for fit, _ in found] == [2] * 6
    assert np.mean([adjusted_rand(fit.membership_AK.argmax(1), group_A) for fit, group_A in found]) >= 0.9


def test_one_group_is_one_group():
    counts = [fit_mixture(world(1000 + seed, groups=1)[0], seed=seed).n_groups for seed in range(100)]
    assert np.mean(np.array(counts) == 1) >= 0.95


def test_a_group_of_noise_only_is_one_group_and_said():
    rng = np.random.default_rng(0)
    votes, _, _ = world(3)
    noise = pair_votes(
        np.stack([votes.item_i_V, votes.item_j_V], 1), rng.integers(0, 2, len(votes)).astype(float), annotator_V=votes.annotator_V
    )
    fit = fit_mixture(noise)
    assert fit.n_groups == 1
    assert "noise as far as these votes tell" in "\n".join(fit.notes)


def test_conflicts_are_those_of_the_planted_scores():
    votes, group_A, scores_KI = world(1, annotators=150)
    fit = fit_mixture(votes, MixtureSettings(groups=2))
    truth = scores_KI if group_A[fit.membership_AK[:, 0].argmax()] == 0 else scores_KI[::-1]
    gap_KP = truth[:, fit.lo_P] - truth[:, fit.hi_P]
    apart_P = gap_KP[0] * gap_KP[1] < 0
    assert len(fit.conflicts) > 20
    assert np.mean(apart_P[fit.conflicts.pair_C]) >= 0.95
    covered = np.mean((fit.gap.low < gap_KP) & (gap_KP < fit.gap.high))
    assert 0.9 <= covered <= 0.99  # one draw; the memberships are taken as known


def test_the_log_posterior_never_falls_and_swapping_sides_changes_nothing():
    votes, _, _ = world(2, sd=1.0)
    fit = fit_mixture(votes, MixtureSettings(groups=3, tolerance=1e-9))
    assert falls(fit.trace) == 0.0
    swapped = pair_votes(np.stack([votes.item_j_V, votes.item_i_V], 1), 1 - votes.outcome_V, annotator_V=votes.annotator_V)
    np.testing.assert_allclose(fit_mixture(swapped, MixtureSettings(groups=3, tolerance=1e-9)).membership_AK, fit.membership_AK, atol=1e-9)


def test_mirror_groups_are_named():
    votes, _, _ = world(4, groups=1, annotators=80)
    flip = np.arange(80) % 2 == 1
    outcome = np.where(flip[votes.annotator_V], 1 - votes.outcome_V, votes.outcome_V)
    fit = fit_mixture(pair_votes(np.stack([votes.item_i_V, votes.item_j_V], 1), outcome, annotator_V=votes.annotator_V))
    assert fit.n_groups == 2
    assert "mirror images" in "\n".join(fit.notes)
    assert adjusted_rand(fit.membership_AK.argmax(1), flip.astype(int)) >= 0.9


def test_too_many_groups_are_refused():
    with pytest.raises(ConfigError, match="3 groups of 2 annotators"):
        fit_mixture(pair_votes([[0, 1], [0, 1]], [1, 0], annotator_V=[0, 1]), MixtureSettings(groups=3))


def test_the_gradient_of_pooled_scores_is_the_derivative():
    rng = np.random.default_rng(5)
    lo = np.array([0, 0, 1, 2, 0])
    cells = CellVotes(
        lo,
        lo + 1,
        np.array([0, 1, 1, 2, 2]),
        rng.uniform(1, 5, 5),
        rng.uniform(0, 1, 5),
        rng.integers(0, 2, (3, 4)) * 1.0,
        np.zeros(4, int),
        4,
    )
    tau = rng.uniform(0.5, 2, 4)
    point = rng.normal(size=20)
    assert check_grad(lambda x: _loss(x, cells, 1.3, tau)[0], lambda x: _loss(x, cells, 1.3, tau)[1], point) < 1e-5


def test_an_attribute_that_matters_is_told_from_one_that_does_not():
    rng = np.random.default_rng(6)
    region, noise = rng.integers(0, 3, 120), rng.integers(0, 2, 120)
    common, offset = rng.normal(0, 1.2, 15), rng.normal(0, 1.0, (3, 15))
    who = np.repeat(np.arange(120), 30)
    i = rng.integers(0, 15, len(who))
    j = (i + rng.integers(1, 15, len(who))) % 15
    level_I = common + offset
    gap = level_I[region[who], i] - level_I[region[who], j]
    votes = pair_votes(np.stack([i, j], 1), (rng.random(len(who)) < 1 / (1 + np.exp(-gap))).astype(float), annotator_V=who)
    values = ["north", "south", "west"]
    fit = fit_attributes(votes, {"region": [values[k] for k in region], "coin": [None if k else "heads" for k in noise]})
    assert fit.tests["region"].accepted
    assert not fit.tests["coin"].accepted
    assert fit.spread["region"] > 0.6 > 0.3 > fit.spread["coin"]
    assert fit.missing == {"region": 0, "coin": int(noise.sum())}
    for g, (name, value) in enumerate(fit.levels_G):
        if name == "region":
            truth = level_I[values.index(value)]
            gap_P = truth[fit.lo_P] - truth[fit.hi_P]
            assert np.mean((fit.gap.low[g] < gap_P) & (gap_P < fit.gap.high[g])) > 0.85
            assert np.corrcoef(gap_P, fit.gap.value[g])[0, 1] > 0.95


def test_columns_that_cannot_be_used_are_refused():
    votes, _, _ = world(0)
    with pytest.raises(DataError, match="3 values for 60 annotators"):
        fit_attributes(votes, {"age": [1, 2, 3]})
    with pytest.raises(DataError, match="one level only"):
        fit_attributes(votes, {"age": ["x"] * 60})
    with pytest.raises(DataError, match="no columns"):
        fit_attributes(votes, {})


def test_the_table_keeps_votes_apart():
    votes, _, _ = world(0)
    assert int(pair_table(votes).n_votes_P.sum()) == len(votes)
